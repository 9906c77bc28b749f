"""How a conversation becomes what a model reads: defined here once, for training, serving and evaluation.

`mistral` is our template for models without a system role of their own; a model with one (`system_role`) keeps its own
template. Neither torch nor transformers is needed to render; `ConversationTokenizer` is given a tokenizer of transformers.
"""

from shared.chat_template.conversation import Message, Role, conversation
from shared.chat_template.families import Family, template_text
from shared.chat_template.protected import ConversationTokenizer, EncodedPrompt, EncodedReply
from shared.chat_template.rendering import ChatTemplateError, render

__all__ = [
    "ChatTemplateError",
    "ConversationTokenizer",
    "EncodedPrompt",
    "EncodedReply",
    "Family",
    "Message",
    "Role",
    "conversation",
    "render",
    "template_text",
]
