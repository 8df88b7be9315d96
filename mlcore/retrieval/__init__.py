"""From a trained model to matches: embedding, whitening, search, localization."""
