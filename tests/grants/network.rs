//! Granted connections.

use super::*;

methods::over_all_start_methods! {
    f97_only_what_is_granted_is_connected_to
    f97_sockets_that_are_only_linked_refuse_everything
}

/// A server of this test's own: answers each "ping" with "pong".
struct Server(SocketAddr);

impl Server {
    fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (mut from, mut to, mut heard) = (&connection, &connection, [0; 4]);
                if from.read_exact(&mut heard).is_ok() && &heard == b"ping" {
                    let _left_early = to.write_all(b"pong");
                }
            }
        });
        Server(address)
    }
}

/// What `sockets.wat` is to do at an address.
fn connect_to(address: SocketAddr) -> Vec<u8> {
    let IpAddr::V4(ip) = address.ip() else { panic!("an IPv4 address") };
    [b"c ", &ip.octets()[..], &address.port().to_le_bytes()].concat()
}

#[track_caller]
fn try_sockets(pool: &Pool, record: &[u8]) -> Vec<u8> {
    let (mut inputs, mut outcomes) = pool.stream(&Target::default(), true).unwrap();
    inputs.push(record).unwrap();
    outcomes.take_one(None, |outcome| outcome.result().map(<[u8]>::to_vec)).unwrap().unwrap().unwrap()
}

/// The error of preview 2's sockets for what is not allowed.
const DENIED: u8 = 1;

fn f97_only_what_is_granted_is_connected_to(method: StartMethod) {
    let (granted, other) = (Server::start(), Server::start());
    let module = wat(SOCKETS);
    let pool = pool(&module, method, Policy::sealed().net(granted.0.to_string()));
    for _ in 0..3 {
        assert_eq!(try_sockets(&pool, &connect_to(granted.0)), b"pong");
    }
    // Another port, and another address with that port, at which the server would answer too.
    let elsewhere = SocketAddr::new([127, 0, 0, 2].into(), granted.0.port());
    for address in [other.0, elsewhere] {
        assert_eq!(try_sockets(&pool, &connect_to(address)), [255, 3, DENIED], "{address}");
    }
    assert_eq!(try_sockets(&pool, b"l 127.0.0.1"), [127, 0, 0, 1]);
    for name in ["localhost", "example.org", "127.0.0.2"] {
        assert_eq!(try_sockets(&pool, &[b"l ", name.as_bytes()].concat()), [255, 1, DENIED], "{name}");
    }
    assert_eq!(try_sockets(&pool, b"u"), [255, 1, DENIED], "UDP is never granted");
    assert_eq!(try_sockets(&pool, b"b"), [255, 2, DENIED], "nor an address of its own");
    let listening = try_sockets(&pool, b"w");
    assert!(listening[..1] == [255] && listening[1] >= 2, "nor listening: {listening:?}");
    assert_eq!(try_sockets(&pool, &connect_to(granted.0)), b"pong", "no worker died of it");
}

fn f97_sockets_that_are_only_linked_refuse_everything(method: StartMethod) {
    let server = Server::start();
    let pool = pool(&wat(SOCKETS), method, Policy::sealed().refuse_net());
    for record in [&connect_to(server.0)[..], b"b", b"w", b"u", b"l localhost", b"l 127.0.0.1"] {
        assert_eq!(try_sockets(&pool, record), [255, 1, DENIED], "{record:?}");
    }
}

/// The coordinator looks it up: no worker has a resolver.
#[test]
fn a_name_is_looked_up_once() {
    let _bound = time_bound();
    let server = Server::start();
    let policy = Policy::sealed().net(format!("localhost:{}", server.0.port()));
    let pool = pool(&wat(SOCKETS), StartMethod::Forkserver, policy);
    assert_eq!(try_sockets(&pool, b"l localhost"), [127, 0, 0, 1]);
    assert_eq!(try_sockets(&pool, b"l LocalHost"), [127, 0, 0, 1]);
    assert_eq!(try_sockets(&pool, &connect_to(server.0)), b"pong");
}
