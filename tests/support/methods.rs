//! Tests of what all start methods share.

/// Makes a test of each function, once for each start method.
macro_rules! over_all_start_methods {
    ($($name:ident)*) => {
        mod forkserver {
            $(#[test]
            fn $name() {
                let _bound = super::support::time_bound();
                super::$name(wpool::StartMethod::Forkserver)
            })*
        }
        mod thread {
            $(#[test]
            fn $name() {
                let _bound = super::support::time_bound();
                super::$name(wpool::StartMethod::Thread)
            })*
        }
        mod spawn {
            $(#[test]
            fn $name() {
                let _bound = super::support::time_bound();
                super::$name(wpool::StartMethod::Spawn)
            })*
        }
    };
}
pub(crate) use over_all_start_methods;
