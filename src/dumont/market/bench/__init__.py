"""The market's bench: policies replayed over recorded spot capacity, without look-ahead."""
