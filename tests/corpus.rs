//! Real text through the guests, compared byte for byte with a native computation; and ten million lines in a
//! bounded memory.

mod support;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use support::{assert_no_workers, program, repo};

/// Debian's word list and largest Unicode tables where they can be had, else text of our own making, with
/// every kind of line.
fn corpora() -> Vec<PathBuf> {
    let dir = support::tmp().join("corpus");
    let fetched = Command::new(repo("tests/corpus.sh")).arg(&dir).status();
    assert!(fetched.is_ok_and(|status| status.success()));
    let mut found = vec![dir.join("usr/share/dict/american-english")];
    for table in ["Unihan_Readings.txt", "NamesList.txt", "UnicodeData.txt"] {
        found.push(dir.join("usr/share/unicode").join(table));
    }
    found.retain(|path| path.exists());
    if found.is_empty() {
        found.push(made(&dir));
    }
    found
}

fn made(dir: &Path) -> PathBuf {
    let path = dir.join("made.txt");
    std::fs::create_dir_all(dir).unwrap();
    let mut text = Vec::new();
    for n in 0..200_000u32 {
        let words = n % 17;
        for word in 0..words {
            write!(text, "word{:x} ", n.wrapping_mul(2_654_435_761).rotate_left(word)).unwrap();
        }
        // Empty lines, bytes that are not UTF-8, and carriage returns come as they are.
        text.extend_from_slice(match n % 23 {
            0 => b"\xff\xfe\n",
            1 => b"\r\n",
            _ => b"\n",
        });
    }
    std::fs::write(&path, text).unwrap();
    path
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.strip_suffix(b"\n").unwrap_or(text).split(|b| *b == b'\n')
}

fn map(guest: &str, input: &Path, options: &[&str]) -> Vec<u8> {
    let child = Command::new(program())
        .args(["map", "--quiet", "-j", "3"])
        .args(options)
        .arg(repo(&format!("guest/prebuilt/{guest}.wasm")))
        .arg(input)
        .env("WPOOL_CACHE_DIR", support::cache_dir())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{guest} {}: {}",
        input.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    assert_no_workers(pid);
    output.stdout
}

#[track_caller]
fn same(guest: &str, input: &Path, got: &[u8], native: impl Fn(&[u8]) -> Vec<u8>) {
    let text = std::fs::read(input).unwrap();
    let mut wanted = Vec::with_capacity(got.len());
    for line in lines(&text) {
        wanted.extend(native(line));
        wanted.push(b'\n');
    }
    if got != wanted {
        let at = got.iter().zip(&wanted).position(|(a, b)| a != b).unwrap_or(got.len().min(wanted.len()));
        panic!(
            "{guest} over {}: differs at byte {at} of {} (native {})",
            input.display(),
            got.len(),
            wanted.len()
        );
    }
}

#[test]
fn upper_case_word_count_and_sha256_equal_a_native_computation() {
    for input in corpora() {
        let got = map("upper", &input, &["--reuse"]);
        same("upper", &input, &got, <[u8]>::to_ascii_uppercase);
        let got = map("sha256", &input, &["--reuse"]);
        same("sha256", &input, &got, |line| {
            Sha256::digest(line).iter().flat_map(|b| format!("{b:02x}").into_bytes()).collect()
        });
    }
    // Only text has words.
    let input = corpora().swap_remove(0);
    if std::str::from_utf8(&std::fs::read(&input).unwrap()).is_ok() {
        let got = map("wordcount", &input, &["--reuse"]);
        same("wordcount", &input, &got, |line| {
            String::from_utf8_lossy(line).split_whitespace().count().to_string().into_bytes()
        });
    }
}

#[test]
fn a_fresh_instance_for_each_record_gives_the_same() {
    let text = std::fs::read(&corpora()[0]).unwrap();
    let some: Vec<u8> = lines(&text).take(20_000).flat_map(|line| [line, b"\n"].concat()).collect();
    let input = support::tmp().join("some-lines.txt");
    std::fs::write(&input, some).unwrap();
    let got = map("upper", &input, &["--fresh"]);
    same("upper", &input, &got, <[u8]>::to_ascii_uppercase);
}

#[test]
fn f72_ten_million_lines_need_no_more_than_64_mib_in_the_coordinator() {
    const LINES: u64 = 10_000_000;
    let mut child = Command::new(program())
        .args(["map", "--quiet", "--reuse", "-j", "2"])
        .arg(repo("guest/examples/wat/echo.wat"))
        .arg("-")
        .env("WPOOL_CACHE_DIR", support::cache_dir())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let generator = std::thread::spawn(move || {
        let mut block = Vec::new();
        for n in 0..LINES {
            writeln!(block, "generated line {n}").unwrap();
            if block.len() > 1 << 16 {
                stdin.write_all(&block).unwrap();
                block.clear();
            }
        }
        stdin.write_all(&block).unwrap();
    });
    // The peak is read while the process lives: at the end of its output it is still there, or it has just
    // ended.
    let mut peak_kib = 0;
    let (mut bytes, mut newlines) = (0u64, 0u64);
    let mut buf = vec![0; 1 << 18];
    let mut last_look = Instant::now();
    loop {
        let len = stdout.read(&mut buf).unwrap();
        if len == 0 {
            break;
        }
        bytes += len as u64;
        newlines += buf[..len].iter().filter(|b| **b == b'\n').count() as u64;
        if last_look.elapsed() > Duration::from_millis(20) {
            peak_kib = peak_kib.max(peak_memory_kib(pid));
            last_look = Instant::now();
        }
    }
    generator.join().unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(newlines, LINES);
    let digits: u64 = (0..LINES).map(|n| u64::from(n.checked_ilog10().unwrap_or(0) + 1)).sum();
    assert_eq!(bytes, LINES * "generated line \n".len() as u64 + digits);
    assert!(peak_kib > 0 && peak_kib <= 64 << 10, "the coordinator needed {peak_kib} KiB");
    assert_no_workers(pid);
}

/// The most memory that the process has had so far.
fn peak_memory_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().strip_suffix(" kB")?.trim().parse().ok()).unwrap_or(0)
}
