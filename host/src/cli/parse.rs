//! Reads the text behind a flag: times, sizes, numbers, and names with values.

use std::ffi::{OsStr, OsString};
use std::num::NonZeroU64;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use super::choices::{DirArg, JobCount, LogFile, ProfileArg, QueueFile, ShareArg, ShareKind};
use crate::spec::{Clock, DirAccess, Limits, ProfilingStrategy, Random};

/// Failures that another attempt may avoid: the name of each group, and its kinds as in `TaskError::kind`.
const RETRY_KINDS: [(&str, &[&str]); 3] = [
    ("lost", &["worker-lost"]),
    ("timeout", &["time"]),
    ("error", &["failed", "trap", "exit", "memory", "fuel", "stack", "table", "output", "bad-result"]),
];

/// One value of `--retry-on`: kinds of failures.
pub(super) type RetryKind = &'static [&'static str];

/// The file of `--profile guest`, unless the flag names one.
const PROFILE_PATH: &str = "wpool-guest-profile.json";

impl FromStr for JobCount {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |digits: &str| {
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return Err("expected a number N, N%, +N or -N");
            }
            // A number that does not fit becomes the largest one; `settings::processes` applies the cap.
            Ok(digits.parse().unwrap_or(usize::MAX))
        };
        if let Some(percent) = text.strip_suffix('%') {
            return number(percent).map(JobCount::Percent);
        }
        match text.as_bytes().first() {
            Some(b'+') => number(&text[1..]).map(JobCount::More),
            Some(b'-') => number(&text[1..]).map(JobCount::Fewer),
            _ => number(text).map(|n| if n == 0 { JobCount::Default } else { JobCount::Exactly(n) }),
        }
    }
}

/// The longest time limit: a thousand years, which every clock can count.
pub(super) const TIME_MAX: Duration = Duration::from_secs(1000 * 365 * 24 * 3600);

/// `2`, `0.5`, `500ms`, `1m30s`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a time such as 2s, 500ms, 1m30s, or a number of seconds".to_owned();
    let time = match text.parse::<f64>() {
        Ok(secs) if secs.is_nan() || secs < 0.0 => return Err(wrong()),
        Ok(secs) => Duration::try_from_secs_f64(secs).unwrap_or(TIME_MAX),
        Err(_) => humantime::parse_duration(text).map_err(|_| wrong())?,
    };
    Ok(time.min(TIME_MAX))
}

pub(super) fn size(text: &str) -> Result<u64, String> {
    let size = parse_size::Config::new().with_binary().parse_size(text);
    size.map_err(|_| "expected a size such as 64M or 1G (K, M, G are powers of 1024)".to_owned())
}

pub(super) fn payload_size(text: &str) -> Result<usize, String> {
    let size = usize::try_from(size(text)?).ok().filter(|size| *size <= Limits::RECORD_MAX);
    size.ok_or_else(|| format!("the most is {}M", Limits::RECORD_MAX >> 20))
}

pub(super) fn stack_size(text: &str) -> Result<usize, String> {
    let size = usize::try_from(size(text)?)
        .ok()
        .filter(|size| (Limits::STACK_MIN..=Limits::STACK_MAX).contains(size));
    size.ok_or_else(|| format!("possible are {}K to {}M", Limits::STACK_MIN >> 10, Limits::STACK_MAX >> 20))
}

/// `5000000`, `5M`.
pub(super) fn count(text: &str) -> Result<NonZeroU64, String> {
    let (digits, unit) = match text.char_indices().next_back() {
        Some((at, unit)) if !unit.is_ascii_digit() => (&text[..at], Some(unit.to_ascii_uppercase())),
        _ => (text, None),
    };
    let factor = match unit {
        None => Some(1),
        Some('K') => Some(1_000),
        Some('M') => Some(1_000_000),
        Some('G') => Some(1_000_000_000),
        Some('T') => Some(1_000_000_000_000),
        Some(_) => None,
    };
    let digits = Some(digits).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
    let number = digits.and_then(|digits| digits.parse().ok()).zip(factor);
    let number =
        number.and_then(|(number, factor): (u64, u64)| number.checked_mul(factor)).and_then(NonZeroU64::new);
    number.ok_or_else(|| {
        "expected a number from 1 on, such as 5000000 or 5M (K, M, G, T are powers of 1000)".to_owned()
    })
}

pub(super) fn some_size(text: &str) -> Result<NonZeroU64, String> {
    NonZeroU64::new(size(text)?).ok_or_else(|| "expected more than 0".to_owned())
}

/// A kind of failure, or a group of kinds.
pub(super) fn retry_kind(text: &str) -> Result<RetryKind, String> {
    let group = RETRY_KINDS.into_iter().find(|(name, _)| *name == text).map(|(_, kinds)| kinds);
    let kind = || RETRY_KINDS.into_iter().flat_map(|(_, kinds)| kinds.chunks(1)).find(|kind| kind[0] == text);
    group.or_else(kind).ok_or_else(|| {
        let names = RETRY_KINDS.into_iter().map(|(name, _)| name);
        let kinds = RETRY_KINDS.into_iter().flat_map(|(_, kinds)| kinds).copied();
        format!("expected one of {}", names.chain(kinds).collect::<Vec<_>>().join(", "))
    })
}

/// `queue:found=1000`, `lock:db`.
pub(super) fn share(text: &str) -> Result<ShareArg, String> {
    let (kind, rest) = text.split_once(':').ok_or_else(|| share_form(""))?;
    let (name, size) = match rest.split_once('=') {
        Some((name, size)) => (name, Some(size)),
        None => (rest, None),
    };
    if name.is_empty() {
        return Err(share_form("a name is missing; "));
    }
    let what = share_kind(kind, size).map_err(|why| share_form(&why))?;
    Ok(ShareArg { text: text.to_owned(), what, name: name.to_owned() })
}

fn share_form(why: &str) -> String {
    format!(
        "{why}expected queue:NAME[=MOST], jqueue:NAME[=MOST], pipe:NAME, value:NAME[=FIRST], \
         dict:NAME[=MOST], lock:NAME, rlock:NAME, semaphore:NAME[=UNITS], bsemaphore:NAME[=UNITS], \
         event:NAME, condition:NAME or barrier:NAME=PARTIES"
    )
}

fn share_kind(kind: &str, size: Option<&str>) -> Result<ShareKind, String> {
    let number = |size: &str| {
        let number = size.parse().ok().filter(|number| *number > 0);
        number.ok_or_else(|| format!("{size:?} is no number from 1 on; "))
    };
    let most = || {
        let most = size.map(number).transpose()?;
        Ok::<_, String>(most.map(|most: u32| most as usize))
    };
    let units = || Ok::<_, String>(size.map(number).transpose()?.unwrap_or(1).into());
    let kind = match kind {
        "queue" => ShareKind::Queue { max_len: most()? },
        "jqueue" => ShareKind::JoinableQueue { max_len: most()? },
        "dict" => ShareKind::Dict { max_len: most()? },
        "value" => ShareKind::Value { text: size.unwrap_or("0").to_owned() },
        "semaphore" => ShareKind::Semaphore { value: units()? },
        "bsemaphore" => ShareKind::BoundedSemaphore { value: units()? },
        "barrier" => {
            let parties = size.ok_or_else(|| "a barrier needs its number of parties; ".to_owned())?;
            ShareKind::Barrier { parties: number(parties)? }
        }
        _ if size.is_some() => return Err(format!("{kind:?} takes no number, or is unknown; ")),
        "pipe" => ShareKind::Pipe,
        "lock" => ShareKind::Lock,
        "rlock" => ShareKind::RLock,
        "event" => ShareKind::Event,
        "condition" => ShareKind::Condition,
        _ => return Err(format!("{kind:?} is no kind of object; ")),
    };
    Ok(kind)
}

/// `found=found.txt`.
pub(super) fn queue_file(text: &OsStr) -> Result<QueueFile, String> {
    let wrong = || "expected NAME=FILE: the name of a queue (--share queue:NAME), and a file".to_owned();
    let bytes = text.as_bytes();
    let at = memchr::memchr(b'=', bytes).ok_or_else(wrong)?;
    let (queue, path) = (&bytes[..at], &bytes[at + 1..]);
    if queue.is_empty() || path.is_empty() {
        return Err(wrong());
    }
    let queue = std::str::from_utf8(queue).map_err(|_| wrong())?;
    Ok(QueueFile { queue: queue.to_owned(), path: OsStr::from_bytes(path).into() })
}

pub(super) fn delimiter(text: &str) -> Result<u8, String> {
    let byte = match text.as_bytes() {
        [byte] => Some(*byte),
        b"\\t" => Some(b'\t'),
        b"\\n" => Some(b'\n'),
        b"\\r" => Some(b'\r'),
        b"\\0" => Some(0),
        [b'\\', b'x', digits @ ..] if digits.len() == 2 && digits.iter().all(u8::is_ascii_hexdigit) => {
            u8::from_str_radix(&text[2..], 16).ok()
        }
        _ => None,
    };
    byte.ok_or_else(|| "expected one character of one byte, or \\t, \\n, \\0, \\x1f".to_owned())
}

/// `HOST`, `HOST::GUEST`, each with `:ro` or `:rw` behind it.
pub(super) fn dir(text: &OsStr) -> Result<DirArg, String> {
    let bytes = text.as_bytes();
    let (paths, access) = match (bytes.strip_suffix(b":ro"), bytes.strip_suffix(b":rw")) {
        (Some(paths), _) => (paths, DirAccess::ReadOnly),
        (_, Some(paths)) => (paths, DirAccess::ReadWrite),
        _ => (bytes, DirAccess::ReadWrite),
    };
    let (host, guest) = match paths.windows(2).position(|pair| pair == b"::") {
        Some(at) => (&paths[..at], &paths[at + 2..]),
        None => (paths, paths),
    };
    let guest =
        std::str::from_utf8(guest).map_err(|_| "a guest's path must be UTF-8: HOST::GUEST".to_owned())?;
    if host.is_empty() || guest.is_empty() {
        return Err("expected HOST::GUEST, or HOST alone".to_owned());
    }
    Ok(DirArg { host: OsStr::from_bytes(host).into(), guest: guest.to_owned(), access })
}

/// `FILE`, or `+FILE` for appending.
pub(super) fn log_file(text: OsString) -> Result<LogFile, &'static str> {
    let (path, append) = match text.as_bytes().strip_prefix(b"+") {
        Some(path) => (OsStr::from_bytes(path).into(), true),
        None => (PathBuf::from(text), false),
    };
    if path.as_os_str().is_empty() {
        return Err("expected the name of a file");
    }
    Ok(LogFile { path, append })
}

/// `guest`, `guest,PATH`, `guest,PATH,INTERVAL`, `perfmap` or `jitdump`, as for the `wasmtime` command.
pub(super) fn profile(text: &str) -> Result<ProfileArg, String> {
    let wrong = || "expected guest[,PATH[,INTERVAL]], perfmap or jitdump".to_owned();
    let mut parts = text.splitn(3, ',');
    match (parts.next().unwrap_or_default(), parts.next(), parts.next()) {
        ("perfmap", None, _) => Ok(ProfileArg::PerfMap),
        ("jitdump", None, _) => Ok(ProfileArg::JitDump),
        ("guest", path, interval) => {
            let path = path.unwrap_or(PROFILE_PATH);
            let interval = interval.map_or(Ok(ProfilingStrategy::INTERVAL), duration)?;
            if path.is_empty() {
                return Err(wrong());
            }
            if interval < ProfilingStrategy::INTERVAL {
                return Err("the shortest interval is 1ms".to_owned());
            }
            Ok(ProfileArg::Guest { path: path.into(), interval })
        }
        _ => Err(wrong()),
    }
}

pub(super) fn clock(text: &str) -> Result<Clock, String> {
    match (text, text.strip_prefix("fixed=")) {
        ("coarse", _) => Ok(Clock::Coarse),
        ("fine", _) => Ok(Clock::Fine),
        (_, Some(time)) => Ok(Clock::Fixed(time_of_day(time)?)),
        _ => Err("expected coarse, fine, or fixed=TIME".to_owned()),
    }
}

/// `2026-01-31T12:00:00Z`, or seconds since 1970.
fn time_of_day(text: &str) -> Result<SystemTime, String> {
    let of_secs = |secs| {
        Duration::try_from_secs_f64(secs).ok().and_then(|time| SystemTime::UNIX_EPOCH.checked_add(time))
    };
    let time = match text.parse::<f64>() {
        Ok(secs) => of_secs(secs),
        Err(_) => humantime::parse_rfc3339_weak(text).ok(),
    };
    time.ok_or_else(|| "expected a time such as 2026-01-31T12:00:00Z, or seconds since 1970".to_owned())
}

pub(super) fn random(text: &str) -> Result<Random, String> {
    let seed = text.strip_prefix("seed=").and_then(|seed| seed.parse().ok());
    seed.map(Random::Seeded).ok_or_else(|| "expected seed=N, a whole number".to_owned())
}

pub(super) fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_a_number_or_relative_to_the_processors() {
        let jobs = |text: &str| text.parse::<JobCount>();
        assert_eq!(jobs("0"), Ok(JobCount::Default));
        assert_eq!(jobs("5"), Ok(JobCount::Exactly(5)));
        assert_eq!(jobs("50%"), Ok(JobCount::Percent(50)));
        assert_eq!(jobs("+2"), Ok(JobCount::More(2)));
        assert_eq!(jobs("-1"), Ok(JobCount::Fewer(1)));
        assert_eq!(jobs("99999999999999999999999"), Ok(JobCount::Exactly(usize::MAX)));
        for wrong in ["", "abc", "1.5", "%", "+", "-", "-5%", "--1", "5 ", "0x10"] {
            assert!(jobs(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn times_have_units_or_are_seconds() {
        assert_eq!(duration("2"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert_eq!(duration("1e18"), Ok(TIME_MAX));
        assert_eq!(duration("inf"), Ok(TIME_MAX));
        assert_eq!(duration("1e-9"), Ok(Duration::from_nanos(1)));
        for wrong in ["", "NaN", "-1", "soon", "5 parsecs"] {
            assert!(duration(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn sizes_are_binary() {
        assert_eq!((size("64K"), size("1M"), size("100")), (Ok(64 << 10), Ok(1 << 20), Ok(100)));
        assert!(size("much").is_err() && size("-1").is_err());
        assert!(payload_size("4G").unwrap_err().contains("the most is"));
    }

    #[test]
    fn fuel_is_a_number_with_decimal_units() {
        let fuel = |text| count(text).map(NonZeroU64::get);
        assert_eq!((fuel("7"), fuel("2k"), fuel("5M")), (Ok(7), Ok(2_000), Ok(5_000_000)));
        assert_eq!((fuel("1G"), fuel("3T")), (Ok(1_000_000_000), Ok(3_000_000_000_000)));
        assert_eq!(fuel("18446744073709551615"), Ok(u64::MAX));
        for wrong in [
            "",
            "0",
            "0K",
            "K",
            "-1",
            "+1",
            "1e9",
            "1.5M",
            "1KB",
            "5é",
            "18446744073709551616",
            "99999999999999T",
        ] {
            assert!(count(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_stack_size_is_within_its_bounds() {
        assert_eq!((stack_size("16K"), stack_size("64M")), (Ok(16 << 10), Ok(64 << 20)));
        for wrong in ["0", "16383", "10G", "65M", "99999999999999999999G"] {
            assert!(stack_size(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn retry_on_takes_a_kind_or_a_group_of_kinds() {
        assert_eq!(retry_kind("lost"), Ok(&["worker-lost"][..]));
        assert_eq!(retry_kind("time"), retry_kind("timeout"));
        assert_eq!(retry_kind("trap"), Ok(&["trap"][..]));
        assert_eq!(retry_kind("error").unwrap().len(), 9);
        for wrong in ["", "Lost", "bad-input", "cancelled", "broken"] {
            let list = "lost, timeout, error, worker-lost, time, failed, trap, exit, memory, fuel, stack, \
                table, output, bad-result";
            assert_eq!(retry_kind(wrong), Err(format!("expected one of {list}")), "{wrong:?}");
        }
    }

    #[test]
    fn a_directory_is_granted_under_its_own_name_or_another_to_write_or_to_read() {
        let of = |text: &str| {
            dir(OsStr::new(text))
                .map(|DirArg { host, guest, access }| (host.display().to_string(), guest, access))
        };
        let is = |host: &str, guest: &str, access| Ok((host.to_owned(), guest.to_owned(), access));
        assert_eq!(of("data"), is("data", "data", DirAccess::ReadWrite));
        assert_eq!(of("data:ro"), is("data", "data", DirAccess::ReadOnly));
        assert_eq!(of("/a/b::/c"), is("/a/b", "/c", DirAccess::ReadWrite));
        assert_eq!(of("/a/b::/c:rw"), is("/a/b", "/c", DirAccess::ReadWrite));
        assert_eq!(of("/a:b::/c:d:ro"), is("/a:b", "/c:d", DirAccess::ReadOnly));
        for wrong in ["", "::", "::/c", "/a::", ":ro", "::/c:ro"] {
            assert!(of(wrong).is_err(), "{wrong:?}");
        }
        assert!(dir(OsStr::from_bytes(b"\xff::/x")).is_ok() && dir(OsStr::from_bytes(b"\xff")).is_err());
    }

    #[test]
    fn a_profile_may_have_a_file_and_an_interval() {
        let guest =
            |path: &str, ms| Ok(ProfileArg::Guest { path: path.into(), interval: Duration::from_millis(ms) });
        assert_eq!(profile("guest"), guest(PROFILE_PATH, 1));
        assert_eq!(profile("guest,a b.json"), guest("a b.json", 1));
        assert_eq!(profile("guest,p,10ms"), guest("p", 10));
        assert_eq!(profile("perfmap"), Ok(ProfileArg::PerfMap));
        assert_eq!(profile("jitdump"), Ok(ProfileArg::JitDump));
        for wrong in
            ["", "host", "guest,", "guest,p,0", "guest,p,soon", "guest,p,1ms,x", "perfmap,x", "jitdump,"]
        {
            assert!(profile(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn clocks_and_seeds() {
        assert_eq!((clock("coarse"), clock("fine")), (Ok(Clock::Coarse), Ok(Clock::Fine)));
        let at = |secs| Ok(Clock::Fixed(SystemTime::UNIX_EPOCH + Duration::from_secs(secs)));
        assert_eq!((clock("fixed=0"), clock("fixed=1700000000")), (at(0), at(1_700_000_000)));
        assert_eq!(
            (clock("fixed=1970-01-02T00:00:00Z"), clock("fixed=1970-01-02 00:00:00")),
            (at(86_400), at(86_400))
        );
        for wrong in ["", "real", "fixed", "fixed=", "fixed=-1", "fixed=NaN", "fixed=1e300", "fixed=now"] {
            assert!(clock(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(random("seed=7"), Ok(Random::Seeded(7)));
        for wrong in ["", "7", "seed=", "seed=-1", "seed=x"] {
            assert!(random(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_delimiter_is_one_byte_or_an_escape() {
        for (text, byte) in
            [(",", b','), ("\\t", b'\t'), ("\\0", 0), ("\\x1f", 0x1f), ("\\n", b'\n'), ("\\", b'\\')]
        {
            assert_eq!(delimiter(text), Ok(byte), "{text:?}");
        }
        for wrong in ["", "ab", "\\q", "\\x", "\\xzz", "\\x100", "\\x+f", "é"] {
            assert!(delimiter(wrong).is_err(), "{wrong:?}");
        }
    }
}
