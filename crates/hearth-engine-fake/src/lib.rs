//! The engine process without a model, for tests; nothing of it is in the package.
//!
//! `hearth-engine-fake` is the engine process with the backend of [`fake`] instead of
//! llama.cpp's. Its chat layer is the real one, which is C++.

pub mod fake;
