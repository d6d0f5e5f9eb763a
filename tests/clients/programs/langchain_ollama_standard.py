"""langchain-tests' standard chat-model suite for ChatOllama at the server in LQMF_BASE_URL; pytest runs this file."""

import os

from langchain_ollama import ChatOllama
from langchain_tests.integration_tests import ChatModelIntegrationTests


class TestChatOllama(ChatModelIntegrationTests):
    @property
    def chat_model_class(self):
        return ChatOllama

    @property
    def chat_model_params(self):
        return {"model": "m", "base_url": os.environ["LQMF_BASE_URL"]}

    @property
    def supports_json_mode(self):
        return True

    @property
    def has_tool_choice(self):
        return False
