//! What the system grants this process.
//!
//! It must not exceed what an administrator allows. Invariant: a limit is only ever raised.

use std::io;

/// Returns how many files the process may have open.
///
/// # Errors
/// The failure of getrlimit.
pub fn open_files_max() -> io::Result<u64> {
    limits().map(|limits| limits.rlim_cur)
}

/// Lets the process open as many files as an administrator allows; returns how many.
///
/// # Errors
/// The failure of getrlimit or setrlimit.
pub fn raise_open_files() -> io::Result<u64> {
    let mut limits = limits()?;
    if limits.rlim_cur < limits.rlim_max {
        limits.rlim_cur = limits.rlim_max;
        #[expect(unsafe_code, reason = "the standard library knows no limits")]
        // SAFETY: the pointer is to a rlimit that lives until the call returns.
        let result = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limits) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(limits.rlim_cur)
}

fn limits() -> io::Result<libc::rlimit> {
    let mut limits = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    #[expect(unsafe_code, reason = "the standard library knows no limits")]
    // SAFETY: the pointer is to a rlimit that the kernel fills.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limits) };
    match result {
        0 => Ok(limits),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_open_files_rises_to_what_is_allowed_and_no_further() {
        let before = open_files_max().expect("tells");
        let raised = raise_open_files().expect("raises");
        assert!(before <= raised);
        assert_eq!(open_files_max().expect("tells"), raised);
        assert_eq!(raise_open_files().expect("raises"), raised);
    }
}
