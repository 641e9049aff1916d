//! `wasi:sockets/ip-name-lookup`: a guest can look up the names that are granted to it, and no others.
//!
//! It gets the addresses that the coordinator has found. A worker never sends a query for a name.

use std::collections::HashSet;
use std::net::IpAddr;
use std::pin::Pin;

use wasmtime::component::{Linker, Resource, ResourceType};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddress, Network};
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};

use crate::spec::{Grants, NetGrant};
use crate::worker::guest::store::Ctx;

/// The interface, of which the engine has its own. This replaces it.
const LOOKUP: &str = "wasi:sockets/ip-name-lookup@0.2.0";

/// The addresses of a name that have not been handed out yet.
struct Addresses(std::vec::IntoIter<IpAddr>);

impl Pollable for Addresses {
    /// Always ready: the addresses are known.
    fn ready<'a, 'f>(&'a mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'f>>
    where
        'a: 'f,
        Self: 'f,
    {
        Box::pin(std::future::ready(()))
    }
}

/// Replaces the engine's own interface in a linker, if any host is granted.
pub(crate) fn add_to_linker(linker: &mut Linker<Ctx>, grants: &Grants) -> wasmtime::Result<()> {
    let Some(granted) = grants.net.clone() else { return Ok(()) };
    linker.allow_shadowing(true);
    let mut lookup = linker.instance(&super::name_in_linker(LOOKUP))?;
    lookup.resource(
        "resolve-address-stream",
        ResourceType::host::<Addresses>(),
        |mut store, addresses| {
            let view = store.data_mut().ctx();
            view.table.delete::<Addresses>(Resource::new_own(addresses))?;
            Ok(())
        },
    )?;
    lookup.func_wrap(
        "resolve-addresses",
        move |mut store, (network, name): (Resource<Network>, String)| {
            let view = store.data_mut().ctx();
            // The engine's own function checks its handle too. Without that, a guest could pass any number.
            view.table.get(&network)?;
            let found = match find(&granted, &name) {
                Some(addresses) => Ok(view.table.push(Addresses(addresses.into_iter()))?),
                None => Err(ErrorCode::AccessDenied),
            };
            Ok((found,))
        },
    )?;
    lookup.func_wrap(
        "[method]resolve-address-stream.resolve-next-address",
        |mut store, (addresses,): (Resource<Addresses>,)| {
            let next = store.data_mut().ctx().table.get_mut(&addresses)?.0.next();
            Ok((Ok::<_, ErrorCode>(next.map(IpAddress::from)),))
        },
    )?;
    lookup.func_wrap(
        "[method]resolve-address-stream.subscribe",
        |mut store, (addresses,): (Resource<Addresses>,)| {
            let ready: Resource<DynPollable> = subscribe(store.data_mut().ctx().table, addresses)?;
            Ok((ready,))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

/// The granted addresses of `name`, which may be an address itself. `None`: it is not granted.
fn find(granted: &[NetGrant], name: &str) -> Option<Vec<IpAddr>> {
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    // An address that is written out is compared as a number: it has many spellings.
    let written_out = bare.parse::<IpAddr>().ok();
    let mut found: Vec<IpAddr> = Vec::new();
    for net in granted {
        let matches = |ip: &IpAddr| match written_out {
            Some(address) => address == *ip,
            None => net.host.eq_ignore_ascii_case(bare),
        };
        found.extend(net.addresses.iter().map(|address| address.ip()).filter(matches));
    }
    let mut seen = HashSet::new();
    found.retain(|ip| seen.insert(*ip));
    (!found.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_granted_names_are_found() {
        let net = |host: &str, addresses: &[&str]| NetGrant {
            host: host.to_owned(),
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        };
        let granted = [
            net("Example.org", &["10.0.0.1:80", "[fd00::1]:80"]),
            net("example.org", &["10.0.0.1:443"]),
            net("::1", &["[::1]:80"]),
        ];
        let of = |name: &str| {
            find(&granted, name).unwrap_or_default().iter().map(IpAddr::to_string).collect::<Vec<_>>()
        };
        assert_eq!(of("example.ORG"), ["10.0.0.1", "fd00::1"]);
        assert_eq!((of("::1"), of("[::1]")), (vec!["::1".to_owned()], vec!["::1".to_owned()]));
        assert_eq!(of("10.0.0.1"), ["10.0.0.1"]);
        for name in ["example.com", "", "10.0.0.2", "example.org.", "localhost"] {
            assert!(find(&granted, name).is_none(), "{name}");
        }
    }
}
