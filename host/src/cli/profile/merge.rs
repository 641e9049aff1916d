//! The profiles of several workers as one file for the Firefox profiler.
//!
//! A worker's profile is read twice: once to judge it, and once to write it. This module knows only the parts
//! of the format that refer to something outside a thread: the list of libraries, and the time at which the
//! profile begins. The run decides that time, and no worker does.

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use serde_json::value::RawValue;

use super::json::{Deltas, Elements, Fields, Sound, write_fields, write_object, write_shifted};

/// Libraries of one worker. A profile of wpool has one: the module.
const LIBS_MAX: usize = 1 << 12;
/// How far a worker's clock may differ from the run's.
const SLACK_MS: f64 = 60_000.0;

/// Whether a worker's profile could be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Readable {
    Yes,
    No,
}

/// Puts profiles together, each as a process of its own on one time line.
pub(super) struct Merger<W: Write> {
    out: W,
    /// When the run began, in milliseconds since 1970.
    begin: f64,
    /// The texts of all libraries.
    libs: Vec<String>,
    libs_count: u64,
    /// The first profile's `meta`, with the run's time.
    meta: Option<Vec<u8>>,
    pub(super) workers: usize,
    pub(super) samples: u64,
}

impl<W: Write> Merger<W> {
    /// Begins the file of a run that began at `begin`.
    pub(super) fn new(mut out: W, begin: SystemTime) -> io::Result<Merger<W>> {
        out.write_all(b"{\"threads\":[")?;
        let begin =
            begin.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64() * 1000.0;
        Ok(Merger { out, begin, libs: Vec::new(), libs_count: 0, meta: None, workers: 0, samples: 0 })
    }

    /// Adds a worker's profile, unless it is unreadable.
    pub(super) fn add(&mut self, name: &str, json: &[u8]) -> io::Result<Readable> {
        let Some(parts) = Parts::read(json) else { return Ok(Readable::No) };
        let settled = PlacedThread {
            name,
            pid: self.workers + 1,
            libs_before: self.libs_count,
            later: parts.start - self.begin,
        };
        let lasted = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let in_the_run = -SLACK_MS..=lasted.as_secs_f64() * 1000.0 - self.begin + SLACK_MS;
        let is_readable = in_the_run.contains(&settled.later);
        let Some(samples) = is_readable.then(|| settled.write(&parts.thread, &mut io::sink())).flatten()
        else {
            return Ok(Readable::No);
        };
        if self.meta.is_none() {
            let mut meta = Vec::new();
            write_object(&mut meta, &parts.meta, |out, key, value| match key {
                "startTime" => serde_json::to_writer(out, &self.begin).ok(),
                _ => out.write_all(value.get().as_bytes()).ok(),
            });
            self.meta = Some(meta);
        }
        let separator: &[u8] = if self.workers > 0 { b",\n" } else { b"" };
        self.out.write_all(separator)?;
        let mut out = Failing { out: &mut self.out, error: None };
        settled.write(&parts.thread, &mut out);
        out.error.map_or(Ok(()), Err)?;
        self.libs.extend(parts.libs.iter().map(|lib| lib.get().to_owned()));
        self.libs_count += parts.libs.len() as u64;
        self.workers += 1;
        self.samples += samples;
        Ok(Readable::Yes)
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        self.out.write_all(b"],\n\"libs\":[")?;
        for (at, lib) in self.libs.iter().enumerate() {
            self.out.write_all(if at > 0 { b"," } else { b"" })?;
            self.out.write_all(lib.as_bytes())?;
        }
        self.out.write_all(b"],\n\"meta\":")?;
        self.out.write_all(self.meta.as_deref().unwrap_or(b"{}"))?;
        self.out.write_all(b",\n\"pages\":[],\"profilerOverhead\":[],\"counters\":[]}\n")?;
        self.out.flush()
    }
}

/// Takes bytes for a worker's profile between two good ones. It becomes one more or is left out, and does not
/// change the others.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    use serde_json::Value;

    const GOOD: &str = r#"{"meta":{"startTime":1000.0},"libs":[{"name":"a"},{"name":"b"}],
        "threads":[{"name":"?","registerTime":1.0,"samples":{"length":2,"timeDeltas":[1.0,2.5]},
        "resourceTable":{"lib":[1]},"nativeSymbols":{"libIndex":[0]}}]}"#;
    let later = GOOD.replace("1000.0", "1250.0");
    let merged = |between: Option<&[u8]>| {
        let mut out = Vec::new();
        let mut merger = Merger::new(&mut out, SystemTime::UNIX_EPOCH + Duration::from_secs(1))
            .expect("memory does not fail");
        let mut add =
            |name: &str, json: &[u8]| merger.add(name, json).expect("memory does not fail") == Readable::Yes;
        assert!(add("first", GOOD.as_bytes()));
        let is_one = between.is_some_and(|json| add("between", json));
        assert!(add("last", later.as_bytes()));
        assert_eq!(merger.workers, 2 + usize::from(is_one));
        merger.finish().expect("memory does not fail");
        let merged: Value = serde_json::from_slice(&out).expect("what is written is JSON");
        (merged, is_one, out.len())
    };
    let (wanted, _, shortest) = merged(None);
    let (found, is_one, len) = merged(Some(data));
    // Each byte may become an escape.
    assert!(len <= shortest + 8 * data.len() + 1024, "{len} bytes of {}", data.len());
    let (threads, among) = (wanted["threads"].as_array(), found["threads"].as_array());
    let (Some([first, last]), Some([found_first, middle @ .., found_last])) =
        (threads.map(Vec::as_slice), among.map(Vec::as_slice))
    else {
        panic!("a thread is lost: {found}");
    };
    assert_eq!(middle.len(), usize::from(is_one));
    assert_eq!((first, &wanted["meta"]), (found_first, &found["meta"]));
    let libs = found["libs"].as_array().map_or(0, Vec::len) as u64 - 4;
    assert_eq!(last["samples"], found_last["samples"]);
    assert_eq!(found_last["samples"]["timeDeltas"], serde_json::json!([251.0, 2.5]));
    assert_eq!(found_last["resourceTable"]["lib"], serde_json::json!([3 + libs]));
    assert_eq!(found_last["nativeSymbols"]["libIndex"], serde_json::json!([2 + libs]));
    if is_one {
        assert_eq!((&middle[0]["name"], &middle[0]["pid"]), (&Value::from("between"), &Value::from("2")));
    }
}

/// Keeps the error of the writer below, so that it can be told from an error in the profile.
struct Failing<'w, W> {
    out: &'w mut W,
    error: Option<io::Error>,
}

impl<W: Write> Write for Failing<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes).inspect_err(|e| self.error = Some(io::Error::from(e.kind())))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A worker's profile: it has one thread.
struct Parts<'j> {
    thread: Fields<'j>,
    libs: Vec<&'j RawValue>,
    meta: Fields<'j>,
    /// When the profile begins, in milliseconds since 1970.
    start: f64,
}

impl<'j> Parts<'j> {
    fn read(json: &'j [u8]) -> Option<Parts<'j>> {
        let Sound = serde_json::from_slice(json).ok()?;
        let profile = Fields::read(std::str::from_utf8(json).ok()?)?;
        let Elements::<LIBS_MAX>(libs) = serde_json::from_str(profile.get("libs")?).ok()?;
        let Elements::<1>(threads) = serde_json::from_str(profile.get("threads")?).ok()?;
        let thread = Fields::read(threads.first()?.get())?;
        let meta = Fields::read(profile.get("meta")?)?;
        let start = serde_json::from_str(meta.get("startTime")?).ok()?;
        Some(Parts { thread, libs, meta, start })
    }
}

/// A thread among those of other workers.
struct PlacedThread<'n> {
    name: &'n str,
    pid: usize,
    /// Libraries of the workers before it.
    libs_before: u64,
    /// Milliseconds from the run's beginning to the thread's.
    later: f64,
}

impl PlacedThread<'_> {
    /// Writes the thread, and returns the number of its samples. `None`: it is malformed, or cannot be
    /// written.
    fn write(&self, thread: &Fields<'_>, out: &mut impl Write) -> Option<u64> {
        let required = ["resourceTable", "nativeSymbols", "samples"];
        let mut samples = required.iter().all(|key| thread.get(key).is_some()).then_some(0)?;
        let own = ["name", "processName", "pid", "tid"];
        let mut written = Fields::default();
        written.0.extend(
            thread.0.iter().filter(|(key, _)| !own.contains(&key.as_str())).map(|(k, v)| (k.clone(), *v)),
        );
        out.write_all(b"{").ok()?;
        let pid = self.pid.to_string();
        for (key, value) in own.into_iter().zip([self.name, self.name, &pid, &pid]) {
            serde_json::to_writer(&mut *out, key).ok()?;
            out.write_all(b":").ok()?;
            serde_json::to_writer(&mut *out, value).ok()?;
            out.write_all(b",").ok()?;
        }
        write_fields(out, &written, |out, key, value| match key {
            "resourceTable" => self.write_table(out, value, "lib"),
            "nativeSymbols" => self.write_table(out, value, "libIndex"),
            "samples" => {
                samples = self.write_samples(out, value)?;
                Some(())
            }
            "registerTime" | "unregisterTime" | "processStartupTime" | "processShutdownTime" => {
                match serde_json::from_str::<Option<f64>>(value.get()).ok()? {
                    Some(at) => serde_json::to_writer(out, &(at + self.later)).ok(),
                    None => out.write_all(b"null").ok(),
                }
            }
            _ => out.write_all(value.get().as_bytes()).ok(),
        })?;
        out.write_all(b"}").ok()?;
        Some(samples)
    }

    /// Writes a table in which `column` holds places in the list of libraries.
    fn write_table(&self, out: &mut impl Write, table: &RawValue, column: &str) -> Option<()> {
        let table = Fields::read(table.get())?;
        table.get(column)?;
        write_object(out, &table, |out, key, value| {
            if key == column {
                write_shifted(out, value.get(), self.libs_before)
            } else {
                out.write_all(value.get().as_bytes()).ok()
            }
        })
    }

    /// Writes the samples with the thread's beginning added to the first time. Returns the number that the
    /// worker claims, or that of the samples if it is smaller.
    fn write_samples(&self, out: &mut impl Write, samples: &RawValue) -> Option<u64> {
        let samples = Fields::read(samples.get())?;
        let said: u64 = serde_json::from_str(samples.get("length")?).ok()?;
        let deltas = samples.get("timeDeltas")?;
        let Deltas { first, count } = serde_json::from_str(deltas).ok()?;
        write_object(out, &samples, |out, key, value| match (key, first) {
            ("timeDeltas", Some(first)) => {
                out.write_all(b"[").ok()?;
                serde_json::to_writer(&mut *out, &(first + self.later)).ok()?;
                // The value is an array whose first element is a number, so a comma or the end follows it.
                out.write_all(&value.get().as_bytes()[value.get().find([',', ']'])?..]).ok()
            }
            _ => out.write_all(value.get().as_bytes()).ok(),
        })?;
        Some(said.min(count))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::json::FIELDS_MAX;
    use super::*;

    /// When the runs of these tests began: long ago, and they are not over.
    fn begin() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1)
    }

    fn profile(start: f64) -> Vec<u8> {
        let json = serde_json::json!({
            "meta": { "startTime": start, "product": "guest" },
            "libs": [{ "name": "a" }, { "name": "b" }],
            "threads": [{
                "name": "?", "pid": "0", "tid": 0, "registerTime": 0.0, "unregisterTime": 5.0,
                "samples": { "length": 2, "timeDeltas": [1.0, 2.5], "stack": [0, 0] },
                "resourceTable": { "length": 1, "lib": [1] },
                "nativeSymbols": { "length": 1, "libIndex": [0] },
                "stringArray": ["f,]", "g"],
            }],
        });
        serde_json::to_vec(&json).unwrap()
    }

    fn merged(merger: Merger<Vec<u8>>) -> Value {
        let mut out = Vec::new();
        // What it has written so far, and the rest.
        let Merger { out: written, begin, libs, libs_count, meta, workers, samples } = merger;
        Merger { out: &mut out, begin, libs, libs_count, meta, workers, samples }.finish().unwrap();
        serde_json::from_slice(&[written, out].concat()).unwrap()
    }

    #[test]
    fn profiles_of_workers_are_put_together_on_one_time_line() {
        let mut merger = Merger::new(Vec::new(), begin()).unwrap();
        assert_eq!(merger.add("PoolWorker-1", &profile(1000.0)).unwrap(), Readable::Yes);
        assert_eq!(merger.add("PoolWorker-2", &profile(1250.0)).unwrap(), Readable::Yes);
        assert_eq!((merger.workers, merger.samples), (2, 4));
        let merged = merged(merger);
        let threads = merged["threads"].as_array().unwrap();
        assert_eq!(
            (threads[0]["name"].as_str(), threads[1]["name"].as_str()),
            (Some("PoolWorker-1"), Some("PoolWorker-2"))
        );
        assert_ne!(threads[0]["pid"], threads[1]["pid"]);
        assert_eq!(threads[1]["samples"]["timeDeltas"], serde_json::json!([251.0, 2.5]));
        assert_eq!(
            (&threads[1]["registerTime"], &threads[1]["unregisterTime"]),
            (&Value::from(250.0), &Value::from(255.0))
        );
        assert_eq!(threads[1]["resourceTable"]["lib"], serde_json::json!([3]));
        assert_eq!(threads[1]["nativeSymbols"]["libIndex"], serde_json::json!([2]));
        assert_eq!(threads[1]["stringArray"], serde_json::json!(["f,]", "g"]));
        assert_eq!(merged["libs"].as_array().unwrap().len(), 4);
        assert_eq!(merged["meta"], serde_json::json!({ "startTime": 1000.0, "product": "guest" }));
    }

    #[test]
    fn f113_no_worker_decides_the_time_of_the_others() {
        let far = SystemTime::now() + Duration::from_secs(1 << 20);
        let far = far.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64() * 1000.0;
        let mut merger = Merger::new(Vec::new(), begin()).unwrap();
        for start in [far, 1e308, -1e308, -100_000.0] {
            assert_eq!(merger.add("liar", &profile(start)).unwrap(), Readable::No, "{start}");
        }
        // Unreadable, and within the time of the run.
        let cut = String::from_utf8(profile(500.0)).unwrap().replace("\"lib\":[1]", "\"lib\":[\"x\"]");
        assert_eq!(merger.add("odd", cut.as_bytes()).unwrap(), Readable::No);
        assert_eq!(merger.add("PoolWorker-2", &profile(1250.0)).unwrap(), Readable::Yes);
        let merged = merged(merger);
        assert_eq!(merged["threads"].as_array().unwrap().len(), 1);
        assert_eq!(merged["threads"][0]["samples"]["timeDeltas"][0], Value::from(251.0));
        assert_eq!(merged["meta"]["startTime"], Value::from(1000.0));
        assert_eq!(merged["libs"].as_array().unwrap().len(), 2);
    }

    /// The most memory that this program has had, in MiB.
    fn peak() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
    }

    #[test]
    fn f113_a_long_profile_takes_no_more_memory_than_its_text() {
        let text = String::from_utf8(profile(1000.0)).unwrap();
        // A tree of it would take a hundred times as much.
        let zeros = "0,".repeat(4 << 20);
        let text = text.replace("[1.0,2.5]", &format!("[1.0,{zeros}2.5]"));
        let text = text.replace("\"lib\":[1]", &format!("\"lib\":[{zeros}1]"));
        let text = text.replace("\"stringArray\":[", &format!("\"stringArray\":[[[{zeros}0]],"));
        let before = peak();
        let mut merger = Merger::new(io::sink(), begin()).unwrap();
        assert_eq!(merger.add("PoolWorker-1", text.as_bytes()).unwrap(), Readable::Yes);
        let after = peak();
        // Other tests of this program have some of their own.
        assert!(after < before + 128, "{} MiB of text, {before} MiB before, {after} after", text.len() >> 20);
    }

    #[test]
    fn what_is_no_profile_is_left_out_and_does_no_harm() {
        // Numbers that only an attacker sends.
        let with = |from: &str, to: &str| {
            let text = String::from_utf8(profile(1000.0)).unwrap();
            assert!(text.contains(from));
            text.replace(from, to).into_bytes()
        };
        let mut honest = Merger::new(Vec::new(), begin()).unwrap();
        assert_eq!(honest.add("x", &profile(1000.0)).unwrap(), Readable::Yes);
        assert_eq!(
            honest.add("y", &with("\"lib\":[1]", "\"lib\":[18446744073709551615]")).unwrap(),
            Readable::No
        );
        assert_eq!(
            honest.add("z", &with("\"length\":2", "\"length\":18446744073709551615")).unwrap(),
            Readable::Yes
        );
        assert_eq!((honest.workers, honest.samples), (2, 4));

        let mut merger = Merger::new(Vec::new(), begin()).unwrap();
        let cut = profile(1000.0);
        let fields: String = (0..=FIELDS_MAX).map(|n| format!("\"f{n}\":0,")).collect();
        let libs = format!("\"libs\":[{}{{}}]", "{},".repeat(LIBS_MAX));
        for wrong in [
            &b""[..],
            b"[]",
            b"{}",
            b"{\"libs\":[],\"threads\":[{}],\"meta\":{\"startTime\":0}}",
            &cut[..cut.len() / 2],
            &with("\"name\":\"?\"", &format!("{fields}\"name\":\"?\"")),
            &with("\"libs\":[{\"name\":\"a\"},{\"name\":\"b\"}]", &libs),
            &with("[1.0,2.5]", "[\"1\",2.5]"),
            &with("[1.0,2.5]", "[[1.0],2.5]"),
            &with("\"registerTime\":0.0", "\"registerTime\":{}"),
            b"\xff",
            // What other readers of JSON do not take.
            &with("[\"f,]\"", "[1e999"),
            &with("[\"f,]\"", "[\"\\ud800\""),
            &with("[\"f,]\"", &format!("[{}0{}", "[".repeat(1000), "]".repeat(1000))),
        ] {
            assert_eq!(merger.add("x", wrong).unwrap(), Readable::No, "{}", String::from_utf8_lossy(wrong));
        }
        assert_eq!(merged(merger)["threads"], serde_json::json!([]));
    }
}
