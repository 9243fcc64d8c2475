//! Probes on the TLS libraries of processes: plaintext before it is encrypted and after it was decrypted.

pub(crate) mod calls;
mod go;
mod library;
