"""Cold-start data by modality bridging: the requests, the filter and the output."""
