//! The WASI of a guest, as its policy grants it: environment, directories, connections, clocks, random
//! numbers.

use std::cell::Cell;
use std::collections::HashSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, SystemTime};

use rand_core::TryRng;
use rustix::io::Errno;
use rustix::rand::GetRandomFlags;
use sha2::{Digest, Sha256};
use wasmtime_wasi::clocks::{MonotonicClock, WallClock};
use wasmtime_wasi::filesystem::WasiFilesystemCtx;
use wasmtime_wasi::sockets::{SocketAddrUse, WasiSocketsCtx};
use wasmtime_wasi::{FsPerms, HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxBuilder};

use crate::spec::{Clock, DirAccess, DirGrant, Grants, Random};

/// The grants of a worker's guests, with what is opened for them once.
pub(super) struct WasiGrants {
    spec: Grants,
    files: WasiFilesystemCtx,
    sockets: WasiSocketsCtx,
}

/// Grants a directory through the descriptor that the coordinator opened and checked, not by the path: that
/// may lead elsewhere by now.
fn preopen(builder: &mut WasiCtxBuilder, dir: &DirGrant, fd: BorrowedFd<'_>) -> wasmtime::Result<()> {
    let perms = match dir.access {
        DirAccess::ReadOnly => FsPerms::ReadOnly,
        DirAccess::ReadWrite => FsPerms::ReadWrite,
    };
    builder.preopened_dir(format!("/proc/self/fd/{}", fd.as_raw_fd()), &dir.guest, perms)?;
    Ok(())
}

impl WasiGrants {
    /// Opens the directories. Later, the confinement forbids it.
    pub(super) fn new(grants: &Grants, dirs: &[BorrowedFd<'_>]) -> Result<WasiGrants, String> {
        let mut builder = WasiCtxBuilder::new();
        // A guest may block its thread in a file operation: the worker has no other guest to run.
        builder.allow_blocking_current_thread(true);
        for (dir, fd) in grants.dirs.iter().zip(dirs) {
            let opened = preopen(&mut builder, dir, *fd);
            opened.map_err(|e| format!("the directory {:?} cannot be opened: {e:#}", dir.guest))?;
        }
        if grants.can_connect() {
            let granted: HashSet<SocketAddr> = grants.addresses().collect();
            // The address is checked here, since landlock sees the port only.
            builder.allow_tcp(true).socket_addr_check(move |address, what| {
                let allowed = may_use(&granted, address, what);
                Box::pin(async move { allowed })
            });
        }
        let mut wasi = builder.build();
        Ok(WasiGrants {
            spec: grants.clone(),
            files: wasi.filesystem().clone(),
            sockets: wasi.sockets().clone(),
        })
    }

    /// The grants as data.
    pub(super) fn spec(&self) -> &Grants {
        &self.spec
    }

    /// Configures what each store has for itself: environment, clocks, random numbers.
    pub(super) fn configure(&self, builder: &mut WasiCtxBuilder) {
        builder.envs(&self.spec.env);
        self.set_clocks(builder);
        self.set_generators(builder);
    }

    fn set_clocks(&self, builder: &mut WasiCtxBuilder) {
        match self.spec.clock {
            // The default: a clock of nanoseconds lets a guest measure caches, which is how other processes'
            // secrets are read.
            Clock::Coarse => {
                builder.wall_clock(CoarseClock(WallClock::new()));
                builder.monotonic_clock(CoarseClock(MonotonicClock::new()));
            }
            Clock::Fine => {}
            Clock::Fixed(time) => {
                builder.wall_clock(FixedClock(time));
                builder.monotonic_clock(CountingClock(Cell::new(0)));
            }
        }
    }

    fn set_generators(&self, builder: &mut WasiCtxBuilder) {
        match self.spec.random {
            // The engine's own generators are thread-local. A fork copies their state, and all workers of a
            // zygote would draw the same numbers.
            Random::Secure => {
                let Ok(number) = bytes_of(&mut KernelRandom).map(u128::from_le_bytes);
                builder
                    .secure_random(KernelRandom)
                    .insecure_random(KernelRandom)
                    .insecure_random_seed(number);
            }
            // Each store begins anew: a task draws the same numbers on any worker and in any order.
            Random::Seeded(seed) => {
                let Ok(number) = bytes_of(&mut SeededBytes::new(seed, "seed")).map(u128::from_le_bytes);
                builder.secure_random(SeededBytes::new(seed, "secure"));
                builder.insecure_random(SeededBytes::new(seed, "insecure"));
                builder.insecure_random_seed(number);
            }
        }
    }

    /// Gives a store what all of them use: the open directories, and the rules for sockets.
    pub(super) fn share(&self, wasi: &mut WasiCtx) {
        if self.spec.has_dirs() {
            *wasi.filesystem() = self.files.clone();
        }
        if self.spec.can_connect() {
            *wasi.sockets() = self.sockets.clone();
        }
    }
}

fn may_use(granted: &HashSet<SocketAddr>, address: SocketAddr, what: SocketAddrUse) -> bool {
    match what {
        SocketAddrUse::TcpConnect => granted.contains(&address),
        // The engine asks this before each connection, too: the kernel then chooses the address and the port.
        SocketAddrUse::TcpBind => address.ip().is_unspecified() && address.port() == 0,
        _ => false,
    }
}

/// A clock that shows whole multiples of [`Clock::RESOLUTION`].
struct CoarseClock<C>(C);

impl<C: HostWallClock> HostWallClock for CoarseClock<C> {
    fn resolution(&self) -> Duration {
        Clock::RESOLUTION
    }

    fn now(&self) -> Duration {
        let nanos = self.0.now().as_nanos();
        Duration::from_nanos_u128(nanos - nanos % Clock::RESOLUTION.as_nanos())
    }
}

impl<C: HostMonotonicClock> HostMonotonicClock for CoarseClock<C> {
    fn resolution(&self) -> u64 {
        RESOLUTION_NANOS
    }

    fn now(&self) -> u64 {
        let nanos = self.0.now();
        nanos - nanos % RESOLUTION_NANOS
    }
}

const RESOLUTION_NANOS: u64 = Clock::RESOLUTION.subsec_nanos() as u64;

/// A wall clock that always shows the same time.
struct FixedClock(SystemTime);

impl HostWallClock for FixedClock {
    fn resolution(&self) -> Duration {
        Clock::RESOLUTION
    }

    fn now(&self) -> Duration {
        // The policy refuses a time before 1970.
        self.0.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }
}

/// A clock that advances by one step whenever it is read.
struct CountingClock(Cell<u64>);

impl HostMonotonicClock for CountingClock {
    fn resolution(&self) -> u64 {
        RESOLUTION_NANOS
    }

    fn now(&self) -> u64 {
        let now = self.0.get();
        self.0.set(now.saturating_add(RESOLUTION_NANOS));
        now
    }
}

/// The next `N` bytes of a generator.
fn bytes_of<const N: usize, R: TryRng + ?Sized>(generator: &mut R) -> Result<[u8; N], R::Error> {
    let mut bytes = [0; N];
    generator.try_fill_bytes(&mut bytes)?;
    Ok(bytes)
}

/// The kernel's random numbers. The process keeps no state of them that a fork could copy.
struct KernelRandom;

impl TryRng for KernelRandom {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        bytes_of(self).map(u32::from_le_bytes)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        bytes_of(self).map(u64::from_le_bytes)
    }

    fn try_fill_bytes(&mut self, mut out: &mut [u8]) -> Result<(), Infallible> {
        while !out.is_empty() {
            match rustix::rand::getrandom(&mut *out, GetRandomFlags::empty()) {
                Ok(len) => out = &mut out[len..],
                // The tick can interrupt a long draw.
                Err(Errno::INTR) => {}
                // There is no weaker fallback: a guest relies on these numbers. The kernel always gives them,
                // unless a filter of system calls forbids the call.
                Err(e) => panic!("the kernel gives no random numbers: {e}"),
            }
        }
        Ok(())
    }
}

/// Random bytes that follow from a seed: the SHA-256 of the seed, a counter and the name of the stream, for
/// each value of the counter. They are the same in every version of this program.
struct SeededBytes {
    seed: u64,
    name: &'static str,
    next: u64,
    block: [u8; 32],
    used: usize,
}

impl SeededBytes {
    fn new(seed: u64, name: &'static str) -> SeededBytes {
        SeededBytes { seed, name, next: 0, block: [0; 32], used: 32 }
    }

    fn refill(&mut self) {
        let hash = Sha256::new().chain_update(self.seed.to_le_bytes()).chain_update(self.next.to_le_bytes());
        self.block = hash.chain_update(self.name).finalize().into();
        self.next += 1;
        self.used = 0;
    }
}

impl TryRng for SeededBytes {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        bytes_of(self).map(u32::from_le_bytes)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        bytes_of(self).map(u64::from_le_bytes)
    }

    fn try_fill_bytes(&mut self, mut out: &mut [u8]) -> Result<(), Infallible> {
        while !out.is_empty() {
            if self.used == self.block.len() {
                self.refill();
            }
            let len = out.len().min(self.block.len() - self.used);
            let (now, rest) = out.split_at_mut(len);
            now.copy_from_slice(&self.block[self.used..self.used + len]);
            self.used += len;
            out = rest;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seeded_stream_is_the_same_however_it_is_drawn_and_for_ever() {
        let mut whole = [0; 100];
        let Ok(()) = SeededBytes::new(7, "secure").try_fill_bytes(&mut whole);
        let mut drawn = SeededBytes::new(7, "secure");
        let Ok(first) = drawn.try_next_u64();
        assert_eq!(first.to_le_bytes(), whole[..8]);
        let mut rest = [0; 92];
        for part in rest.chunks_mut(7) {
            let Ok(()) = drawn.try_fill_bytes(part);
        }
        assert_eq!(rest, whole[8..]);
        let Ok(other) = SeededBytes::new(8, "secure").try_next_u64();
        assert_ne!(other, first);
        let hash = Sha256::digest([&7u64.to_le_bytes()[..], &0u64.to_le_bytes(), b"secure"].concat());
        assert_eq!(hash[..], whole[..32]);
    }

    #[test]
    fn clocks_are_cut_or_stand_or_count() {
        let wall = CoarseClock(WallClock::new());
        let before = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let now = wall.now();
        assert_eq!(now.subsec_nanos() % 1_000_000, 0);
        assert!(now + Clock::RESOLUTION >= before && now < before + Duration::from_secs(3600));
        let monotonic = CoarseClock(MonotonicClock::new());
        std::thread::sleep(Duration::from_millis(2));
        assert!(monotonic.now() >= 2_000_000 && monotonic.now().is_multiple_of(1_000_000));
        let counting = CountingClock(Cell::new(0));
        assert_eq!([counting.now(), counting.now(), counting.now()], [0, 1_000_000, 2_000_000]);
    }

    #[test]
    fn only_what_is_granted_is_connected_to_and_nothing_listens() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let granted: HashSet<_> = [address("127.0.0.1:80")].into();
        let may = |text: &str, what| may_use(&granted, address(text), what);
        assert!(may("127.0.0.1:80", SocketAddrUse::TcpConnect));
        assert!(
            !may("127.0.0.1:81", SocketAddrUse::TcpConnect)
                && !may("127.0.0.2:80", SocketAddrUse::TcpConnect)
        );
        assert!(may("0.0.0.0:0", SocketAddrUse::TcpBind) && !may("0.0.0.0:8080", SocketAddrUse::TcpBind));
        for what in [
            SocketAddrUse::TcpListen,
            SocketAddrUse::TcpAccept,
            SocketAddrUse::UdpBind,
            SocketAddrUse::UdpSend,
        ] {
            assert!(!may("127.0.0.1:80", what), "{what:?}");
        }
    }
}
