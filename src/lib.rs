//! Hearthd: language models on the small computer in the house.

pub mod config;
pub mod protocol;
pub mod service;
pub mod units;
