//! Text form of every structure, for comparing two images.
