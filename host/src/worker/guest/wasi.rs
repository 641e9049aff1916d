//! What a policy puts behind a guest's WASI imports.

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

use crate::spec::{Clock, DirAccess, Grants, Random};

/// What every new store is given.
pub(super) struct Given {
    grants: Grants,
    files: WasiFilesystemCtx,
    sockets: WasiSocketsCtx,
}

impl Given {
    /// Takes the directories while they can be opened.
    pub(super) fn new(grants: &Grants, dirs: &[BorrowedFd<'_>]) -> Result<Given, String> {
        let mut builder = WasiCtxBuilder::new();
        // A guest that waits for a file has nothing else to do, and its worker no other guest.
        builder.allow_blocking_current_thread(true);
        for (dir, fd) in grants.dirs.iter().zip(dirs) {
            let perms = match dir.access {
                DirAccess::ReadOnly => FsPerms::ReadOnly,
                DirAccess::ReadWrite => FsPerms::ReadWrite,
            };
            let opened =
                builder.preopened_dir(format!("/proc/self/fd/{}", fd.as_raw_fd()), &dir.guest, perms);
            opened.map_err(|e| format!("the directory {:?} cannot be opened: {e:#}", dir.guest))?;
        }
        if grants.can_connect() {
            let granted: HashSet<SocketAddr> = grants.addresses().collect();
            builder.allow_tcp(true).socket_addr_check(move |address, what| {
                let allowed = may_use(&granted, address, what);
                Box::pin(async move { allowed })
            });
        }
        let mut wasi = builder.build();
        Ok(Given {
            grants: grants.clone(),
            files: wasi.filesystem().clone(),
            sockets: wasi.sockets().clone(),
        })
    }

    pub(super) fn grants(&self) -> &Grants {
        &self.grants
    }

    /// What each store has for itself.
    pub(super) fn set(&self, builder: &mut WasiCtxBuilder) {
        builder.envs(&self.grants.env);
        match self.grants.clock {
            Clock::Coarse => {
                builder.wall_clock(Coarse(WallClock::new()));
                builder.monotonic_clock(Coarse(MonotonicClock::new()));
            }
            Clock::Fine => {}
            Clock::Fixed(time) => {
                builder.wall_clock(Standing(time));
                builder.monotonic_clock(Counting(Cell::new(0)));
            }
        }
        match self.grants.random {
            // The engine's own generators are threads' variables: a fork copies their state, so that all workers of a zygote would draw
            // the same numbers.
            Random::Secure => {
                let Ok(number) = bytes_of(&mut Kernel).map(u128::from_le_bytes);
                builder.secure_random(Kernel).insecure_random(Kernel).insecure_random_seed(number);
            }
            Random::Seeded(seed) => {
                let Ok(number) = bytes_of(&mut Stream::new(seed, "seed")).map(u128::from_le_bytes);
                builder.secure_random(Stream::new(seed, "secure"));
                builder.insecure_random(Stream::new(seed, "insecure"));
                builder.insecure_random_seed(number);
            }
        }
    }

    /// What all stores share.
    pub(super) fn place(&self, wasi: &mut WasiCtx) {
        if self.grants.has_dirs() {
            *wasi.filesystem() = self.files.clone();
        }
        if self.grants.can_connect() {
            *wasi.sockets() = self.sockets.clone();
        }
    }
}

fn may_use(granted: &HashSet<SocketAddr>, address: SocketAddr, what: SocketAddrUse) -> bool {
    match what {
        SocketAddrUse::TcpConnect => granted.contains(&address),
        // Which is asked before each connection too: any port of any address that the kernel chooses.
        SocketAddrUse::TcpBind => address.ip().is_unspecified() && address.port() == 0,
        _ => false,
    }
}

/// A clock with its last digits cut off.
struct Coarse<C>(C);

impl<C: HostWallClock> HostWallClock for Coarse<C> {
    fn resolution(&self) -> Duration {
        Clock::RESOLUTION
    }

    fn now(&self) -> Duration {
        let nanos = self.0.now().as_nanos();
        Duration::from_nanos_u128(nanos - nanos % Clock::RESOLUTION.as_nanos())
    }
}

impl<C: HostMonotonicClock> HostMonotonicClock for Coarse<C> {
    fn resolution(&self) -> u64 {
        RESOLUTION_NANOS
    }

    fn now(&self) -> u64 {
        let nanos = self.0.now();
        nanos - nanos % RESOLUTION_NANOS
    }
}

const RESOLUTION_NANOS: u64 = Clock::RESOLUTION.subsec_nanos() as u64;

/// A time of day that does not pass.
struct Standing(SystemTime);

impl HostWallClock for Standing {
    fn resolution(&self) -> Duration {
        Clock::RESOLUTION
    }

    fn now(&self) -> Duration {
        // The policy was refused if it is earlier.
        self.0.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }
}

/// A clock that goes on whenever it is read.
struct Counting(Cell<u64>);

impl HostMonotonicClock for Counting {
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

/// The kernel's random numbers. Nothing of them is kept in the process: what is not there cannot be copied by a fork.
struct Kernel;

impl TryRng for Kernel {
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
                // A long draw is interrupted by the ticker.
                Err(Errno::INTR) => {}
                // Weaker numbers are no substitute. The kernel gives them, once it has started up, unless a filter of system calls forbids it.
                Err(e) => panic!("the kernel gives no random numbers: {e}"),
            }
        }
        Ok(())
    }
}

/// Bytes that look random and follow from a seed: the SHA-256 of the seed, the stream's name and a number, for one number after the other. The
/// same in every version of this program.
struct Stream {
    seed: u64,
    name: &'static str,
    next: u64,
    block: [u8; 32],
    used: usize,
}

impl Stream {
    fn new(seed: u64, name: &'static str) -> Stream {
        Stream { seed, name, next: 0, block: [0; 32], used: 32 }
    }

    fn refill(&mut self) {
        let hash = Sha256::new().chain_update(self.seed.to_le_bytes()).chain_update(self.next.to_le_bytes());
        self.block = hash.chain_update(self.name).finalize().into();
        self.next += 1;
        self.used = 0;
    }
}

impl TryRng for Stream {
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
        let Ok(()) = Stream::new(7, "secure").try_fill_bytes(&mut whole);
        let mut drawn = Stream::new(7, "secure");
        let Ok(first) = drawn.try_next_u64();
        assert_eq!(first.to_le_bytes(), whole[..8]);
        let mut rest = [0; 92];
        for part in rest.chunks_mut(7) {
            let Ok(()) = drawn.try_fill_bytes(part);
        }
        assert_eq!(rest, whole[8..]);
        let Ok(other) = Stream::new(8, "secure").try_next_u64();
        assert_ne!(other, first);
        let hash = Sha256::digest([&7u64.to_le_bytes()[..], &0u64.to_le_bytes(), b"secure"].concat());
        assert_eq!(hash[..], whole[..32]);
    }

    #[test]
    fn clocks_are_cut_or_stand_or_count() {
        let wall = Coarse(WallClock::new());
        let before = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let now = wall.now();
        assert_eq!(now.subsec_nanos() % 1_000_000, 0);
        assert!(now + Clock::RESOLUTION >= before && now < before + Duration::from_secs(3600));
        let monotonic = Coarse(MonotonicClock::new());
        std::thread::sleep(Duration::from_millis(2));
        assert!(monotonic.now() >= 2_000_000 && monotonic.now().is_multiple_of(1_000_000));
        let counting = Counting(Cell::new(0));
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
