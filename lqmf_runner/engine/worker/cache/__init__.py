"""Which tokens the KV cache holds, and the prompts that are kept in main memory after they have left it."""
