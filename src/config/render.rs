//! The documented default file.
