//! `--profile`: what it says, and the profiles of several workers as one file for the Firefox profiler.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value};

use super::exit::{Exit, Failure};
use super::report::Report;
use super::{parse, stdio};
use crate::pool::PoolEvent;
use crate::profiling::ProfilingStrategy;

/// Where a profile goes unless it is said.
const PATH: &str = "wpool-guest-profile.json";

/// Bytes of profiles that are kept until the end. With more, those of later workers are left out.
const KEPT_MAX: usize = 256 << 20;

/// What `--profile` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ProfileArg {
    Guest { path: PathBuf, interval: Duration },
    PerfMap,
    JitDump,
}

impl ProfileArg {
    /// `guest`, `guest,PATH`, `guest,PATH,INTERVAL`, `perfmap`, `jitdump`, as of the `wasmtime` command.
    pub(super) fn parse(text: &str) -> Result<ProfileArg, String> {
        let wrong = || "expected guest[,PATH[,INTERVAL]], perfmap or jitdump".to_owned();
        let mut parts = text.splitn(3, ',');
        match (parts.next().unwrap_or_default(), parts.next(), parts.next()) {
            ("perfmap", None, _) => Ok(ProfileArg::PerfMap),
            ("jitdump", None, _) => Ok(ProfileArg::JitDump),
            ("guest", path, interval) => {
                let path = path.unwrap_or(PATH);
                let interval = interval.map_or(Ok(ProfilingStrategy::INTERVAL), parse::duration)?;
                if path.is_empty() {
                    return Err(wrong());
                }
                match interval < ProfilingStrategy::INTERVAL {
                    true => Err("the shortest interval is 1ms".to_owned()),
                    false => Ok(ProfileArg::Guest { path: path.into(), interval }),
                }
            }
            _ => Err(wrong()),
        }
    }

    pub(super) fn strategy(&self) -> ProfilingStrategy {
        match self {
            ProfileArg::Guest { interval, .. } => ProfilingStrategy::Guest { interval: *interval },
            ProfileArg::PerfMap => ProfilingStrategy::PerfMap,
            ProfileArg::JitDump => ProfilingStrategy::JitDump,
        }
    }
}

/// Takes profiles as they come, and writes them out at the end.
pub(super) struct Profiles {
    arg: Option<ProfileArg>,
    /// Made before anything runs: an hour of work must not end with a directory that is not there.
    file: Option<File>,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    profiles: Vec<(String, Arc<[u8]>)>,
    len: usize,
    left_out: usize,
}

impl Profiles {
    pub(super) fn open(arg: Option<&ProfileArg>) -> Result<Profiles, Failure> {
        let file = match arg {
            Some(ProfileArg::Guest { path, .. }) => Some(File::create(path).map_err(|e| cannot_write(path, &e))?),
            Some(ProfileArg::PerfMap | ProfileArg::JitDump) | None => None,
        };
        Ok(Profiles { arg: arg.cloned(), file, taken: Arc::default() })
    }

    /// To be called with each event of a pool.
    pub(super) fn listener(&self) -> impl Fn(&PoolEvent) + Send + Sync + use<> {
        let taken = self.taken.clone();
        move |event| {
            if let PoolEvent::WorkerProfiled { worker, profile } = event {
                let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
                taken.add(format!("PoolWorker-{worker}"), profile.clone());
            }
        }
    }

    /// The profile of a process, if it has one.
    pub(super) fn add(&self, name: &str, profile: Option<Vec<u8>>) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        profile.into_iter().for_each(|profile| taken.add(name.to_owned(), profile.into()));
    }

    /// Writes them out, and says where they are.
    pub(super) fn finish(self, report: &Report) -> Result<(), Failure> {
        let (path, file) = match (self.arg, self.file) {
            (Some(ProfileArg::Guest { path, .. }), Some(file)) => (path, file),
            (Some(ProfileArg::PerfMap), _) => {
                report.note("profile: each worker has left /tmp/perf-PID.map: see `perf record` and `perf report`");
                return Ok(());
            }
            (Some(ProfileArg::JitDump), _) => {
                report.note("profile: each worker has left /tmp/jit-PID.dump: see `perf inject --jit`");
                return Ok(());
            }
            _ => return Ok(()),
        };
        let taken = std::mem::take(&mut *self.taken.lock().unwrap_or_else(PoisonError::into_inner));
        let mut merger = Merger::new(BufWriter::new(file)).map_err(|e| cannot_write(&path, &e))?;
        let mut unreadable = 0;
        for (name, profile) in taken.profiles {
            match merger.add(&name, &profile).map_err(|e| cannot_write(&path, &e))? {
                Readable::Yes => {}
                Readable::No => unreadable += 1,
            }
        }
        let (workers, samples) = (merger.workers, merger.samples);
        merger.finish().map_err(|e| cannot_write(&path, &e))?;
        if taken.left_out + unreadable > 0 {
            report.warn(&format!("profile: those of {} workers were left out", taken.left_out + unreadable));
        }
        let s = if workers == 1 { "" } else { "s" };
        report.note(&format!(
            "profile: {samples} samples of {workers} worker{s} in {}: open it at profiler.firefox.com",
            path.display()
        ));
        Ok(())
    }
}

impl Taken {
    fn add(&mut self, name: String, profile: Arc<[u8]>) {
        match self.len + profile.len() > KEPT_MAX {
            true => self.left_out += 1,
            false => {
                self.len += profile.len();
                self.profiles.push((name, profile));
            }
        }
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Io, format!("cannot write the profile {}: {}", path.display(), stdio::words(error)))
}

/// Whether a worker's profile could be used.
#[derive(Debug, PartialEq, Eq)]
enum Readable {
    Yes,
    No,
}

/// Puts profiles together, each as a process of its own on one time line. Of the format it knows only what refers to something outside of a
/// thread: the list of libraries, and the time that all begins with.
struct Merger<W: Write> {
    out: W,
    libs: Vec<Value>,
    /// The first one's, and its `startTime` in milliseconds.
    meta: Option<(Value, f64)>,
    workers: usize,
    samples: u64,
}

impl<W: Write> Merger<W> {
    fn new(mut out: W) -> io::Result<Merger<W>> {
        out.write_all(b"{\"threads\":[")?;
        Ok(Merger { out, libs: Vec::new(), meta: None, workers: 0, samples: 0 })
    }

    /// Adds a worker's profile, if it is one.
    fn add(&mut self, name: &str, json: &[u8]) -> io::Result<Readable> {
        let Some(Parts { thread, mut libs, meta, start }) = Parts::read(json) else { return Ok(Readable::No) };
        let start_of_all = self.meta.get_or_insert((meta, start)).1;
        let Some((thread, samples)) = settled(thread, name, self.workers, self.libs.len(), start - start_of_all) else {
            return Ok(Readable::No);
        };
        if self.workers > 0 {
            self.out.write_all(b",\n")?;
        }
        serde_json::to_writer(&mut self.out, &thread)?;
        self.libs.append(&mut libs);
        self.workers += 1;
        self.samples += samples;
        Ok(Readable::Yes)
    }

    fn finish(mut self) -> io::Result<()> {
        let meta = self.meta.map_or_else(|| serde_json::json!({}), |(meta, _)| meta);
        self.out.write_all(b"],\n\"libs\":")?;
        serde_json::to_writer(&mut self.out, &self.libs)?;
        self.out.write_all(b",\n\"meta\":")?;
        serde_json::to_writer(&mut self.out, &meta)?;
        self.out.write_all(b",\n\"pages\":[],\"profilerOverhead\":[],\"counters\":[]}\n")?;
        self.out.flush()
    }
}

/// Takes bytes for a worker's profile, among others that are good: it is one more, or left out, and changes nothing of theirs.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    const GOOD: &str = r#"{"meta":{"startTime":1000.0},"libs":[{"name":"a"},{"name":"b"}],"threads":[{"name":"?","registerTime":1.0,
        "samples":{"length":2,"timeDeltas":[1.0,2.5]},"resourceTable":{"lib":[1]},"nativeSymbols":{"libIndex":[0]}}]}"#;
    let later = GOOD.replace("1000.0", "1250.0");
    let merged = |between: Option<&[u8]>| {
        let mut out = Vec::new();
        let mut merger = Merger::new(&mut out).expect("memory does not fail");
        let mut add = |name: &str, json: &[u8]| merger.add(name, json).expect("memory does not fail") == Readable::Yes;
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
    // A byte of it may become an escape.
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

/// A worker's profile: it has one thread.
struct Parts {
    thread: Map<String, Value>,
    libs: Vec<Value>,
    meta: Value,
    /// Milliseconds since 1970.
    start: f64,
}

impl Parts {
    fn read(json: &[u8]) -> Option<Parts> {
        let Value::Object(mut profile) = serde_json::from_slice(json).ok()? else { return None };
        let Some(Value::Array(libs)) = profile.remove("libs") else { return None };
        let Some(Value::Array(threads)) = profile.remove("threads") else { return None };
        let Some(Value::Object(thread)) = threads.into_iter().next() else { return None };
        let meta = profile.remove("meta")?;
        let start = meta.get("startTime")?.as_f64()?;
        Some(Parts { thread, libs, meta, start })
    }
}

/// The thread as one of several: with a name, a process, the place of its libraries among all, and its beginning, `later` milliseconds after that of
/// the first. And how many samples it has.
fn settled(
    mut thread: Map<String, Value>,
    name: &str,
    index: usize,
    libs_before: usize,
    later: f64,
) -> Option<(Map<String, Value>, u64)> {
    for (table, column) in [("resourceTable", "lib"), ("nativeSymbols", "libIndex")] {
        for lib in thread.get_mut(table)?.get_mut(column)?.as_array_mut()? {
            *lib = Value::from(lib.as_u64()?.checked_add(libs_before as u64)?);
        }
    }
    let samples = thread.get_mut("samples")?;
    let count = samples.get("length")?.as_u64()?;
    let deltas = samples.get_mut("timeDeltas")?.as_array_mut()?;
    // A worker's word: it is only counted if there is something to count.
    let count = count.min(deltas.len() as u64);
    if let Some(first) = deltas.first_mut() {
        *first = Value::from(first.as_f64()? + later);
    }
    for time in ["registerTime", "unregisterTime", "processStartupTime", "processShutdownTime"] {
        if let Some(Value::Number(at)) = thread.get(time) {
            let at = at.as_f64()? + later;
            thread.insert(time.to_owned(), Value::from(at));
        }
    }
    let pid = (index + 1).to_string();
    for (key, value) in [("name", name), ("processName", name), ("pid", &pid), ("tid", &pid)] {
        thread.insert(key.to_owned(), Value::from(value));
    }
    Some((thread, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strategy_may_have_a_file_and_an_interval() {
        let guest = |path: &str, ms| Ok(ProfileArg::Guest { path: path.into(), interval: Duration::from_millis(ms) });
        assert_eq!(ProfileArg::parse("guest"), guest(PATH, 1));
        assert_eq!(ProfileArg::parse("guest,a b.json"), guest("a b.json", 1));
        assert_eq!(ProfileArg::parse("guest,p,10ms"), guest("p", 10));
        assert_eq!(ProfileArg::parse("perfmap"), Ok(ProfileArg::PerfMap));
        assert_eq!(ProfileArg::parse("jitdump"), Ok(ProfileArg::JitDump));
        for wrong in ["", "host", "guest,", "guest,p,0", "guest,p,soon", "guest,p,1ms,x", "perfmap,x", "jitdump,"] {
            assert!(ProfileArg::parse(wrong).is_err(), "{wrong:?}");
        }
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
            }],
        });
        serde_json::to_vec(&json).unwrap()
    }

    #[test]
    fn profiles_of_workers_are_put_together_on_one_time_line() {
        let mut out = Vec::new();
        let mut merger = Merger::new(&mut out).unwrap();
        assert_eq!(merger.add("PoolWorker-1", &profile(1000.0)).unwrap(), Readable::Yes);
        assert_eq!(merger.add("PoolWorker-2", &profile(1250.0)).unwrap(), Readable::Yes);
        assert_eq!((merger.workers, merger.samples), (2, 4));
        merger.finish().unwrap();
        let merged: Value = serde_json::from_slice(&out).unwrap();
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
        assert_eq!(merged["libs"].as_array().unwrap().len(), 4);
        assert_eq!(merged["meta"]["startTime"], Value::from(1000.0));
    }

    #[test]
    fn what_is_no_profile_is_left_out_and_does_no_harm() {
        let mut out = Vec::new();
        let mut merger = Merger::new(&mut out).unwrap();
        let cut = profile(0.0);
        // Numbers that only an attacker sends.
        let huge = |from: &str, to: &str| String::from_utf8(profile(0.0)).unwrap().replace(from, to).into_bytes();
        let lib = huge("\"lib\":[1]", "\"lib\":[18446744073709551615]");
        assert!(lib != cut);
        let mut honest = Merger::new(Vec::new()).unwrap();
        assert_eq!(honest.add("x", &profile(0.0)).unwrap(), Readable::Yes);
        assert_eq!(honest.add("y", &lib).unwrap(), Readable::No);
        let many = huge("\"length\":2", "\"length\":18446744073709551615");
        assert_eq!(honest.add("z", &many).unwrap(), Readable::Yes);
        assert_eq!((honest.workers, honest.samples), (2, 4));
        for wrong in [
            &b""[..],
            b"[]",
            b"{}",
            b"{\"libs\":[],\"threads\":[{}],\"meta\":{\"startTime\":0}}",
            &cut[..cut.len() / 2],
        ] {
            assert_eq!(merger.add("x", wrong).unwrap(), Readable::No);
        }
        merger.finish().unwrap();
        let merged: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(merged["threads"], serde_json::json!([]));
    }
}
