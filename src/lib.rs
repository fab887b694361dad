//! Hearthd: language models on the small computer in the house.

pub mod config;
pub mod engine;
pub mod prompt;
pub mod protocol;
pub mod scheduler;
pub mod service;
pub mod units;
