//! Diagnostics, compiled in only under the feature `log`.

/// Logs at debug level through the log ring.
#[cfg(feature = "log")]
macro_rules! debug {
    ($ctx:expr, $($arg:tt)*) => { aya_log_ebpf::debug!($ctx, $($arg)*) };
}

/// Logs nothing.
#[cfg(not(feature = "log"))]
macro_rules! debug {
    ($ctx:expr, $($arg:tt)*) => {
        let _ = $ctx;
    };
}

pub(crate) use debug;
