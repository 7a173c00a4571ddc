"""From pairs to a checkpoint: splits, mined negatives, fine-tuning, the checkpoint's files.

What does not belong here: judging the result (evaluation/) or letting it serve (promotion/).
"""
