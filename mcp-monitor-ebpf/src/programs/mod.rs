//! The programs, by the hook they sit on.

mod connect;
mod exec;
mod packet;
mod tls;
