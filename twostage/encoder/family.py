"""The architectures whose forward is BERT's arithmetic. They differ in their embeddings alone: where positions start, and what
is added to each token. Knows names and settings, no torch.
"""

FAMILY = {  # model_type: the prefix of its classes in transformers
    "bert": "Bert",
    "roberta": "Roberta",
    "xlm-roberta": "XLMRoberta",
    "camembert": "Camembert",
    "data2vec-text": "Data2VecText",
    "ernie": "Ernie",
}
POSITIONS_AFTER_PAD = ("roberta", "xlm-roberta", "camembert", "data2vec-text")  # fairseq's: the first token stands at pad + 1


def pad_of_positions(model_type: str, pad_token_id: int | None) -> int | None:
    """The pad token after whose id positions start, where they don't start at 0."""
    return pad_token_id if model_type in POSITIONS_AFTER_PAD else None
