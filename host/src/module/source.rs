//! What a module is before it is compiled: a file or bytes, in binary or text form.

use std::io::Read;
use std::path::Path;

use super::ModuleError;

/// Cap on a module file. The file is read whole, and its compiler process has limited time and memory.
const MODULE_LEN_MAX: u64 = 512 << 20;

/// Reads the whole file, after a check that it is a regular file: not a device or a pipe, which may never
/// end.
pub(super) fn read_module(path: &Path) -> Result<Vec<u8>, ModuleError> {
    // `NONBLOCK`, so that opening a FIFO without a writer does not wait.
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC;
    let file =
        rustix::fs::open(path, flags, rustix::fs::Mode::empty()).map_err(|e| ModuleError::Io(e.into()))?;
    let file = std::fs::File::from(file);
    let metadata = file.metadata().map_err(ModuleError::Io)?;
    if metadata.is_dir() {
        return Err(ModuleError::NotWasm("it is a directory".to_owned()));
    }
    if !metadata.is_file() {
        return Err(ModuleError::NotWasm("it is not a regular file".to_owned()));
    }
    let too_large = || Err(ModuleError::NotWasm(format!("it is larger than {} MiB", MODULE_LEN_MAX >> 20)));
    if metadata.len() > MODULE_LEN_MAX {
        return too_large();
    }
    // The file may grow after the look at its length.
    let mut bytes = Vec::new();
    file.take(MODULE_LEN_MAX + 1).read_to_end(&mut bytes).map_err(ModuleError::Io)?;
    if bytes.len() as u64 > MODULE_LEN_MAX {
        return too_large();
    }
    Ok(bytes)
}

/// Whether the bytes are the text format; an error if they are neither text nor binary WebAssembly.
pub(super) fn is_text(bytes: &[u8]) -> Result<bool, ModuleError> {
    let not_wasm = |why: &str| Err(ModuleError::NotWasm(why.to_owned()));
    match bytes {
        [] => not_wasm("it is empty"),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] | [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => Ok(false),
        [0, b'a', b's', b'm', ..] => {
            not_wasm("it has the WebAssembly magic number, but no version known here follows")
        }
        [0x7f, b'E', b'L', b'F', ..] => {
            not_wasm("it is native code (a precompiled artefact is never loaded; give the .wasm)")
        }
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
            not_wasm("it is UTF-16 by its byte order mark, and the text of a module is UTF-8")
        }
        _ if starts_as_wat(without_mark(bytes)) => Ok(true),
        _ => not_wasm("it is not a WebAssembly binary, and not the text of one"),
    }
}

/// The text of a module without the byte order mark that some editors write before it.
pub(super) fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes)
}

/// Reads bytes as a module; only their beginning is examined.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz_module(data: &[u8]) {
    let text = is_text(data);
    if let Err(error) = &text {
        assert!(error.to_string().chars().all(crate::escape::is_plain));
    }
    let is_wat = matches!(text, Ok(true));
    let commented = [b" ;; (module) \n\t(; ( ;)", without_mark(data)].concat();
    assert!(!is_wat || matches!(is_text(&commented), Ok(true)), "comments and space change nothing");
    assert!(!data.starts_with(b"\0asm") || !is_wat);
    // A byte order mark changes nothing before text, and makes nothing else a module.
    let marked = ["\u{feff}".as_bytes(), data].concat();
    assert!(matches!(is_text(&marked), Ok(true)) == starts_as_wat(data), "a byte order mark");
    for (begins, is_module) in [
        (&b"(module"[..], Some(true)),
        (b"( \n component", Some(true)),
        (b";; (module)\r(module", None),
        (
            b"(; (module) ",
            Some(memchr::memmem::find(data, b";)").is_some_and(|end| starts_as_wat(&data[end + 2..]))),
        ),
        (b"\0asm\x01\0\0\0", Some(false)),
        (b"\x7fELF", None),
        (b"#!(module", None),
    ] {
        let found = is_text(&[begins, data].concat());
        match is_module {
            Some(true) => assert!(matches!(found, Ok(true)), "{begins:?}"),
            Some(false) => assert!(!matches!(found, Ok(true)), "{begins:?}"),
            None if begins.starts_with(b";;") => {
                assert!(found.is_err() || data.contains(&b'\n'), "{begins:?}")
            }
            None => assert!(found.is_err(), "{begins:?}"),
        }
    }
}

/// Whether the text is `(module` or `(component` after spaces and comments.
fn starts_as_wat(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    loop {
        rest = rest.trim_ascii_start();
        if let Some(comment) = rest.strip_prefix(b";;") {
            let Some(end) = memchr::memchr(b'\n', comment) else { return false };
            rest = &comment[end..];
        } else if let Some(comment) = rest.strip_prefix(b"(;") {
            let Some(end) = memchr::memmem::find(comment, b";)") else { return false };
            rest = &comment[end + 2..];
        } else {
            break;
        }
    }
    let Some(inside) = rest.strip_prefix(b"(") else { return false };
    let inside = inside.trim_ascii_start();
    inside.starts_with(b"module") || inside.starts_with(b"component")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_magic_tells_binary_from_text_and_from_anything_else() {
        assert!(!is_text(b"\0asm\x01\0\0\0").unwrap());
        assert!(!is_text(b"\0asm\x0d\0\x01\0").unwrap());
        assert!(is_text(b"(module)").unwrap());
        assert!(is_text(b"  ;; a comment\n(; another ;) ( component)").unwrap());
        assert!(is_text(b"\xef\xbb\xbf\r\n(module)").unwrap());
        for (bytes, said) in [
            (&b""[..], "empty"),
            (b"\0asm\x07\0\0\0", "version"),
            (b"\0asm", "version"),
            (b"\x7fELF\x02\x01", "native code"),
            (b"#!/bin/sh\n(module)", "not a WebAssembly binary"),
            (b";; only a comment", "not a WebAssembly binary"),
            (b"\xff\xfe(\0m\0", "it is UTF-16"),
            (b"(\xef\xbb\xbfmodule)", "not a WebAssembly binary"),
            (b"\xff", "not a WebAssembly binary"),
        ] {
            let error = is_text(bytes).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
