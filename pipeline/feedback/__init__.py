"""What people did with what they were shown: events, confidence, pairs, import.

What does not belong here: splits, negatives and triplets (training/).
"""
