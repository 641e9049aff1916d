//! A rate limiter: guests ask the application, in the middle of a task, whether a tenant may go on.
//!
//! The guest imports `acquire` from `acme:limits/limiter`. The application gives it a closure, which counts
//! for all workers together: no worker knows what the others use.
//!
//! `cargo run --release --example rate_limiter`

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use wpool::{Module, Policy, Pool};

/// Squares a number, if the limiter lets the tenant. In WIT:
///
/// ```wit
/// import limiter: interface { acquire: func(tenant: string) -> result<_, string>; }
/// export square: func(tenant: string, n: u32) -> result<u32, string>;
/// ```
const GUEST: &str = r#"(component
  (import "acme:limits/limiter" (instance $limiter
    (export "acquire" (func (param "tenant" string) (result (result (error string)))))))
  (core module $memory
    (memory (export "memory") 1)
    (global $free (mut i32) (i32.const 1024))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (global.get $free) (global.set $free (i32.add (global.get $free) (local.get 3)))))
  (core instance $m (instantiate $memory))
  (core func $acquire (canon lower (func $limiter "acquire")
    (memory $m "memory") (realloc (func $m "realloc"))))
  (core module $code
    (import "m" "memory" (memory 1))
    (import "limiter" "acquire" (func $acquire (param i32 i32 i32)))
    (func (export "square") (param $tenant i32) (param $len i32) (param $n i32) (result i32)
      ;; What the limiter gives has the form of our own result: an error is passed on as it is.
      (call $acquire (local.get $tenant) (local.get $len) (i32.const 16))
      (if (i32.eqz (i32.load8_u (i32.const 16)))
        (then (i32.store (i32.const 20) (i32.mul (local.get $n) (local.get $n)))))
      (i32.const 16)))
  (core instance $c (instantiate $code
    (with "m" (instance $m)) (with "limiter" (instance (export "acquire" (func $acquire))))))
  (func (export "square") (param "tenant" string) (param "n" u32) (result (result u32 (error string)))
    (canon lift (core func $c "square") (memory $m "memory") (realloc (func $m "realloc")))))"#;

/// A bucket of permits for each tenant, which fills up again.
struct RateLimiter {
    /// The most permits in a bucket.
    burst: f64,
    /// The time in which one permit comes back.
    refill: Duration,
    buckets: Mutex<HashMap<String, (f64, Instant)>>,
}

impl RateLimiter {
    fn acquire(&self, tenant: &str) -> Result<(), String> {
        let mut buckets = self.buckets.lock().map_err(|_| "the limiter is out of order")?;
        let now = Instant::now();
        let (permits, seen) = buckets.entry(tenant.to_owned()).or_insert((self.burst, now));
        let refilled = now.duration_since(*seen).div_duration_f64(self.refill);
        (*permits, *seen) = ((*permits + refilled).min(self.burst), now);
        if *permits < 1.0 {
            return Err(format!("{tenant} is over its rate"));
        }
        *permits -= 1.0;
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    wpool::init();
    let limiter = RateLimiter { burst: 3.0, refill: Duration::from_secs(3600), buckets: Mutex::default() };
    let policy =
        Policy::sealed().function("acme:limits/limiter#acquire", move |tenant: &str| limiter.acquire(tenant));
    let pool = Pool::builder(&Module::from_bytes(GUEST.as_bytes())?).processes(2).policy(policy).build()?;
    let square = pool.func::<(&str, u32), u32>("square")?;
    for tenant in ["ann", "bob"] {
        let outcomes = pool.try_map(&square, (1..=5).map(|n| (tenant, n)));
        let (done, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
        println!("{tenant}: {} done, {} refused", done.len(), refused.len());
        for error in refused.into_iter().filter_map(Result::err).take(1) {
            println!("{error}");
        }
    }
    Ok(())
}
