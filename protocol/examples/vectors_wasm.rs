//! The golden vectors inside WebAssembly: a module without imports that is handed a JSON file.
//!
//! `buffer(len)` gives the place to write the file to, `check(len)` answers how many vectors hold,
//! or less than zero, and then `reason(i)` gives the bytes of the reason until it answers 0.
//!
//! This file alone needs unsafe attributes, for its exported names.

use std::sync::Mutex;

static BUFFER: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// The address of `len` bytes for the vectors' JSON.
#[allow(unsafe_code, reason = "an exported name")]
#[unsafe(no_mangle)]
pub extern "C" fn buffer(len: usize) -> *mut u8 {
    let mut buffer = BUFFER.lock().expect("one thread");
    *buffer = vec![0; len];
    buffer.as_mut_ptr()
}

/// How many vectors hold; -1 if one does not, and the buffer then has the reason.
#[allow(unsafe_code, reason = "an exported name")]
#[unsafe(no_mangle)]
pub extern "C" fn check() -> i32 {
    let mut buffer = BUFFER.lock().expect("one thread");
    match medsync_protocol::vectors::check(&buffer) {
        Ok(counts) => counts.iter().map(|(_, count)| *count as i32).sum(),
        Err(error) => {
            *buffer = error.to_string().into_bytes();
            -1
        }
    }
}

/// A byte of the buffer, 0 past its end.
#[allow(unsafe_code, reason = "an exported name")]
#[unsafe(no_mangle)]
pub extern "C" fn reason(at: usize) -> u8 {
    BUFFER
        .lock()
        .expect("one thread")
        .get(at)
        .copied()
        .unwrap_or(0)
}
