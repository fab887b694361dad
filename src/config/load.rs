//! Layers of TOML into one checked [`Config`](super::Config).
