//! What the kernel programs and userspace agree on, and the logic both run.
#![no_std]
#![forbid(unsafe_code)]
