"""Every endpoint. A new one is a file beside this one, its line here, and its name in `configs/routing.py`."""

from delivery.gateway.openai.endpoints.chat import CHAT_COMPLETIONS
from delivery.gateway.openai.endpoints.completions import COMPLETIONS
from delivery.gateway.openai.endpoints.embeddings import EMBEDDINGS
from delivery.gateway.openai.endpoints.responses.endpoint import RESPONSES

ENDPOINTS = (CHAT_COMPLETIONS, RESPONSES, COMPLETIONS, EMBEDDINGS)
