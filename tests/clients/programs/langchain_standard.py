"""langchain-tests' standard chat-model suite for ChatOpenAI at the server in LQMF_BASE_URL; pytest runs this file."""

import os

from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests


class TestChatOpenAI(ChatModelIntegrationTests):
    @property
    def chat_model_class(self):
        return ChatOpenAI

    @property
    def chat_model_params(self):
        return {
            "model": "m",
            "base_url": os.environ["LQMF_BASE_URL"],
            "api_key": "none",
            "stream_usage": True,
            "use_responses_api": "LQMF_RESPONSES" in os.environ,
        }

    @property
    def supports_json_mode(self):
        return True
