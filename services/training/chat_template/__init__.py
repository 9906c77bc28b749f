"""Gives a tokenizer its chat template, and turns conversations into tokens in which no text can be a control token."""

from services.training.chat_template.installation import install
from services.training.chat_template.protected import ConversationTokenizer, EncodedReply

__all__ = ["ConversationTokenizer", "EncodedReply", "install"]
