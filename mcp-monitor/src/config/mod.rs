//! What people write: the pins file (what must hold) and the program configuration (how it runs).

pub mod pins;
