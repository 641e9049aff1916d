//! A resolved policy: its directories are opened, its names looked up.

use std::collections::HashSet;
use std::fs::File;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use super::functions::{self, FunctionTable};
use super::places::Place;
use super::{Dir, Net, Policy, PolicyError, Variable};
use crate::exchange::member::{Share, Shares};
use crate::spec::exchange::NAME_LEN_MAX;
use crate::spec::{Clock, DIRS_MAX, DirAccess, DirGrant, Grants, ModuleInfo, NetGrant, Random};

/// [`Grants`] with the open directories, which only the coordinator has. Cloning is cheap.
#[derive(Debug, Clone, Default)]
pub(crate) struct Granted {
    pub(crate) grants: Grants,
    dirs: Arc<[File]>,
    /// The places of the directories, in the same order.
    places: Arc<[Place]>,
    /// The objects of the exchange and the functions of the application, which workers know by their
    /// positions.
    shares: Shares,
}

/// Where wpool keeps its own files. A guest that wrote there could replace code that the next run executes.
#[derive(Debug, Default)]
pub(crate) struct OwnPlaces {
    pub(crate) caches: Vec<PathBuf>,
    pub(crate) programs: Vec<PathBuf>,
}

impl Granted {
    /// The directories, in the order of [`Grants::dirs`].
    pub(crate) fn dirs(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.dirs.iter().map(File::as_fd)
    }

    /// The same, with the functions of the policy that this module imports.
    pub(crate) fn with_functions(mut self, policy: &Policy, info: &ModuleInfo) -> Granted {
        let table = FunctionTable::new(policy, info);
        self.grants.functions = table.paths();
        if !self.grants.functions.is_empty() {
            self.shares = self.shares.with_functions(table.into_functions(policy));
        }
        self
    }

    /// What of this program is shared with guests.
    pub(crate) fn shares(&self) -> &Shares {
        &self.shares
    }

    /// Fails if the kernel has no landlock, which would confine a process to its grants.
    pub(crate) fn check_kernel(&self, landlock: i32) -> Result<(), PolicyError> {
        // Without a grant the list of system calls alone keeps files and sockets away, so that no landlock is
        // needed.
        let what = match (self.places.first(), self.grants.addresses().next()) {
            (_, _) if landlock > 0 => return Ok(()),
            (Some(place), _) => format!("the directory {:?}", place.path()),
            (None, Some(address)) => format!("a connection to {address}"),
            (None, None) => return Ok(()),
        };
        let reason = "this kernel has no landlock, or it is not switched on, so that nothing would hold a \
            worker to it (--sandbox off, Sandbox::Off go on without)";
        Err(refused(what, reason))
    }

    /// Fails if a guest could use a granted directory against wpool itself.
    pub(crate) fn check_places(&self, own: &OwnPlaces) -> Result<(), PolicyError> {
        for (dir, place) in self.grants.dirs.iter().zip(&*self.places) {
            let what = || format!("the directory {:?} for writing", place.path());
            match dir.access {
                DirAccess::ReadOnly => {}
                DirAccess::ReadWrite => {
                    if let Some(cache) =
                        // Both directions: a directory inside of the cache is as bad as one around it.
                        own.caches.iter().find(|it| place.contains(it) || place.is_within(it))
                    {
                        let of = format!("guests could write wpool's cache {} and its key", cache.display());
                        return Err(refused(what(), format!("{of} (:ro, or a directory beside it)")));
                    }
                    if let Some(program) =
                        own.programs.iter().find(|it| place.contains(it) || place.names(it))
                    {
                        let of = format!("guests could write the running program {}", program.display());
                        return Err(refused(what(), format!("{of} (:ro, or a directory beside it)")));
                    }
                }
            }
        }
        Ok(())
    }

    /// Warnings about grants that the caller may not have meant.
    pub(crate) fn warnings(&self, own: &OwnPlaces) -> Vec<String> {
        // A warning only: the home directory is a natural thing to grant for reading, and it has the cache in
        // it.
        let readable =
            self.grants.dirs.iter().zip(&*self.places).filter(|(dir, _)| dir.access == DirAccess::ReadOnly);
        let warning = |(_, place): (&DirGrant, &Place)| {
            let cache =
                own.caches.iter().find(|it| it.exists() && (place.contains(it) || place.is_within(it)))?;
            let (dir, cache) = (place.path(), cache.display());
            Some(format!(
                "guests may read the key of wpool's cache {cache}, which is in the directory {dir:?}"
            ))
        };
        readable.filter_map(warning).collect()
    }
}

/// The shared objects do not count: a zygote knows none of them.
///
/// Comparing inode numbers is enough: the directories are open here, so the kernel cannot reuse their
/// numbers.
impl PartialEq for Granted {
    fn eq(&self, other: &Granted) -> bool {
        self.grants == other.grants
    }
}

pub(super) fn resolve(policy: &Policy) -> Result<Granted, PolicyError> {
    // A peer may answer differently each time. `refuse_net` grants no connection and is allowed.
    if let (Some(_), true) = (policy.net.as_ref().filter(|net| !net.0.is_empty()), policy.deterministic) {
        return Err(refused("the network", "its answers cannot be deterministic"));
    }
    if let (Some(share), true) = (policy.shares.first(), policy.deterministic) {
        return Err(refused(named(share), "what other tasks do with it cannot be deterministic"));
    }
    // `deterministic` sets both, but a later `clock` or `random` may have changed them.
    let is_fixed = matches!((policy.clock, policy.random), (Clock::Fixed(_), Random::Seeded(_)));
    if policy.deterministic && !is_fixed {
        return Err(refused("a deterministic run", "its clock must be fixed and its random numbers seeded"));
    }
    // The wall clock of WASI counts unsigned seconds since 1970.
    if let Clock::Fixed(time) = policy.clock
        && time < SystemTime::UNIX_EPOCH
    {
        return Err(refused("a fixed clock", "a guest's clock cannot show a time before 1970"));
    }
    functions::check(policy)?;
    let (dirs, (files, places)): (_, (Vec<_>, Vec<_>)) = open(&policy.dirs)?.into_iter().unzip();
    let grants = Grants {
        dirs,
        env: environment(&policy.env)?,
        net: policy.net.as_ref().map(look_up).transpose()?,
        clock: policy.clock,
        random: policy.random,
        deterministic: policy.deterministic,
        traps_unknown: policy.traps_unknown,
        functions: Vec::new(),
    };
    let shares = check_shares(&policy.shares)?;
    Ok(Granted { grants, dirs: files.into(), places: places.into(), shares })
}

fn refused(what: impl Into<String>, reason: impl Into<String>) -> PolicyError {
    PolicyError { what: what.into(), reason: reason.into() }
}

/// An object in words.
fn named(share: &Share) -> String {
    format!("the shared {} {:?}", share.object.kind(), share.name)
}

/// Fails if a guest could not open each object by its name and kind.
fn check_shares(shares: &[Share]) -> Result<Shares, PolicyError> {
    let mut names = HashSet::new();
    for share in shares {
        if share.name.is_empty() || share.name.len() > NAME_LEN_MAX || share.name.contains(char::is_control) {
            let reason = format!("a name has 1 to {NAME_LEN_MAX} bytes, and no control characters");
            return Err(refused(named(share), reason));
        }
        if !names.insert((share.object.kind(), &share.name)) {
            return Err(refused(named(share), "guests have one of this name already"));
        }
    }
    Ok(Shares::new(shares.to_vec()))
}

/// What workers are told about a directory, and what stays here: the open directory and its place.
type Opened = (DirGrant, (File, Place));

fn open(dirs: &[Dir]) -> Result<Vec<Opened>, PolicyError> {
    if dirs.len() > DIRS_MAX {
        return Err(refused(
            format!("{} directories", dirs.len()),
            format!("at most {DIRS_MAX} can be granted"),
        ));
    }
    let mut names = HashSet::new();
    let open = |dir: &Dir| {
        let what = format!("the directory {:?}", dir.host);
        if dir.guest.is_empty() || dir.guest.contains('\0') {
            return Err(refused(what, format!("{:?} is no path for guests", dir.guest)));
        }
        if !names.insert(dir.guest.clone()) {
            return Err(refused(what, format!("guests have a directory {:?} already", dir.guest)));
        }
        // Opened now, because the name may mean another directory later. `O_DIRECTORY` also keeps the open
        // from waiting for the writer of a FIFO.
        let opened = File::options().read(true).custom_flags(libc::O_DIRECTORY).open(&dir.host);
        let opened = opened.and_then(|opened| Ok(File::from(crate::sys::above_stdio(opened.into())?)));
        let file = opened.and_then(|file| Ok((file.metadata()?, file)));
        let (metadata, file) = file.map_err(|e| refused(&what, words(&e)))?;
        let place = Place::of(&file).map_err(|reason| refused(&what, reason))?;
        let grant =
            // With its inode: two policies with the same names may mean different directories, and share no
            // zygote then.
            DirGrant { guest: dir.guest.clone(), access: dir.access, file: (metadata.dev(), metadata.ino()) };
        Ok((grant, (file, place)))
    };
    dirs.iter().map(open).collect()
}

/// The parts of `example.org:443` or `[::1]:80`.
fn host_and_port(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    // Port 0 names no port to connect to.
    let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(host) => Some((host, port)),
        // An IPv6 address needs brackets: its own colons cannot be told from the one before the port.
        None if host.is_empty() || host.contains([':', '[', ']', '/', ' ']) => None,
        None => Some((host, port)),
    }
}

/// An error's text without the error number, which tells most users nothing.
fn words(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.clone(), |(words, _)| words.to_owned())
}

fn environment(variables: &[Variable]) -> Result<Vec<(String, String)>, PolicyError> {
    let mut env: Vec<(String, String)> = Vec::new();
    for variable in variables {
        let name = variable.name();
        let wrong = |reason: &str| refused(format!("the variable {name:?}"), reason);
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(wrong("a variable's name must not be empty, and can contain neither = nor NUL"));
        }
        let value = match variable {
            Variable::Set(_, value) => Some(value.clone()),
            Variable::Inherited(_) => match std::env::var(name) {
                Ok(value) => Some(value),
                // Not an error, so that a policy can name optional variables.
                Err(std::env::VarError::NotPresent) => None,
                Err(std::env::VarError::NotUnicode(_)) => {
                    return Err(wrong("its value is not UTF-8, and a guest needs UTF-8"));
                }
            },
        };
        let Some(value) = value else { continue };
        if value.contains('\0') {
            return Err(wrong("a value cannot contain NUL"));
        }
        // The later of two values counts.
        env.retain(|(known, _)| known != name);
        env.push((name.to_owned(), value));
    }
    Ok(env)
}

fn look_up(net: &Net) -> Result<Vec<NetGrant>, PolicyError> {
    let look_up = |address: &String| {
        let wrong = |reason: String| refused(format!("a connection to {address:?}"), reason);
        let form = || wrong("expected HOST:PORT, such as example.org:443 or [::1]:80".to_owned());
        let (host, port) = host_and_port(address).ok_or_else(form)?;
        // Looked up here, once: workers cannot ask a name server, and all of them shall see the same
        // addresses.
        let found = (host, port)
            .to_socket_addrs()
            .map_err(|e| wrong(format!("the name is not found: {}", words(&e))))?;
        // An IPv6 address that stands for an IPv4 address becomes the IPv4 address, because guests use that.
        let mut addresses: Vec<SocketAddr> =
            found.map(|found| (found.ip().to_canonical(), found.port()).into()).collect();
        // The resolver may list one address several times.
        addresses.dedup();
        if addresses.is_empty() {
            return Err(wrong("the name has no address".to_owned()));
        }
        Ok(NetGrant { host: host.to_owned(), addresses })
    };
    net.0.iter().map(look_up).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn is_refused(policy: Policy, said: &[&str]) {
        let PolicyError { what, reason } = policy.resolve().unwrap_err();
        let error = format!("{what}: {reason}");
        assert!(said.iter().all(|said| error.contains(said)), "{error}");
    }

    #[test]
    fn what_cannot_be_granted_is_named() {
        let sealed = Policy::sealed;
        let here = |policy: Policy| policy.dir(".", "/here", DirAccess::ReadOnly);
        is_refused(sealed().dir("/no/such", "/x", DirAccess::ReadOnly), &["/no/such", "No such file"]);
        is_refused(
            sealed().dir("/etc/passwd", "/x", DirAccess::ReadOnly),
            &["/etc/passwd", "Not a directory"],
        );
        is_refused(here(here(sealed())), &["/here", "already"]);
        is_refused(sealed().dir(".", "", DirAccess::ReadOnly), &["no path"]);
        is_refused(
            (0..33).fold(sealed(), |p, n| p.dir(".", format!("/{n}"), DirAccess::ReadOnly)),
            &["33", "32"],
        );
        for name in ["", "A=B", "A\0"] {
            is_refused(sealed().env(name, "x"), &["variable", "neither ="]);
            is_refused(sealed().inherit_env(name), &["variable"]);
        }
        is_refused(sealed().env("A", "a\0b"), &["\"A\"", "NUL"]);
        for address in
            ["", "host", "host:", ":80", "host:0", "host:65536", "host:http", "::1:80", "[::1]", "a b:80"]
        {
            is_refused(sealed().net(address), &[&format!("{address:?}"), "HOST:PORT"]);
        }
        let early = SystemTime::UNIX_EPOCH - std::time::Duration::from_secs(1);
        is_refused(sealed().clock(Clock::Fixed(early)), &["1970"]);
        is_refused(sealed().deterministic().clock(Clock::Fine), &["deterministic", "fixed"]);
        is_refused(sealed().deterministic().random(Random::Secure), &["deterministic", "seeded"]);
        is_refused(sealed().deterministic().net("127.0.0.1:80"), &["network", "deterministic"]);
    }

    #[test]
    fn nothing_is_granted_by_default() {
        let grants = Policy::sealed().resolve().unwrap().grants;
        assert_eq!(grants, Grants::default());
        assert!(!grants.has_dirs() && !grants.can_write() && !grants.can_connect());
    }

    #[test]
    fn what_is_granted_is_found() {
        let policy = Policy::sealed().net("127.0.0.1:80").net("[::1]:443").net("[::ffff:10.0.0.1]:80");
        let granted = policy
            .env("A", "1")
            .env("B", "2")
            .env("A", "3")
            .inherit_env("NO_SUCH_VARIABLE")
            .resolve()
            .unwrap();
        let addresses: Vec<String> = granted.grants.addresses().map(|a| a.to_string()).collect();
        assert_eq!(addresses, ["127.0.0.1:80", "[::1]:443", "10.0.0.1:80"]);
        let env = [("B", "2"), ("A", "3")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(granted.grants.env, env);
    }

    #[test]
    fn f116_nothing_is_granted_that_no_landlock_would_hold() {
        let check = |policy: Policy, landlock| policy.resolve().unwrap().check_kernel(landlock);
        let dir = |access| Policy::sealed().dir("/etc", "/x", access);
        for policy in
            [dir(DirAccess::ReadOnly), dir(DirAccess::ReadWrite), Policy::sealed().net("127.0.0.1:80")]
        {
            let PolicyError { what, reason } = check(policy.clone(), 0).unwrap_err();
            let refused = format!("{what} cannot be granted: {reason}");
            assert!(refused.contains("no landlock") && refused.contains("--sandbox off"), "{refused}");
            // By the name that its user knows, not by that of the guest.
            assert!(refused.contains("\"/etc\"") || refused.contains("127.0.0.1:80"), "{refused}");
            assert!(check(policy, 1).is_ok());
        }
        assert!(check(Policy::sealed().refuse_net().env("A", "1"), 0).is_ok());
    }

    #[test]
    fn two_policies_are_the_same_if_they_mean_the_same_directories() {
        let of = |host: &str, access| Policy::sealed().dir(host, "/x", access).resolve().unwrap();
        assert_eq!(of("/usr", DirAccess::ReadOnly), of("/usr/lib/..", DirAccess::ReadOnly));
        assert_ne!(of("/usr", DirAccess::ReadOnly), of("/etc", DirAccess::ReadOnly));
        assert_ne!(of("/usr", DirAccess::ReadOnly), of("/usr", DirAccess::ReadWrite));
    }
}
