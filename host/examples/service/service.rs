//! A web service (axum) that runs a guest for each request. Each tenant has a pool with limits of its own. A
//! client that hangs up cancels its task. SIGINT and SIGTERM end the service in good order.
//!
//! ```text
//! POST /run          body: the record; header "x-tenant": free (the default) or paid
//! GET  /ready        200 once the workers of all tenants are ready
//! ```
//!
//! The first line on stdout is the address. It is built with the application in `tests/consumer`, because an
//! example of the crate itself would make the web framework a dependency of its tests:
//!
//! `cargo run --manifest-path tests/consumer/Cargo.toml --bin service -- 127.0.0.1:8000`

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use wpool::{Func, Limit, Limits, Module, Pool, TaskError};

/// What one tenant may use.
struct Tenant {
    pool: Pool,
    run: Func<Vec<u8>, Vec<u8>>,
}

type Tenants = Arc<HashMap<&'static str, Tenant>>;

/// The workers that a tenant may use, and the limits of each of its tasks.
fn tenant(module: &Module, processes: usize, limits: Limits) -> Result<Tenant, wpool::BuildError> {
    let pool = Pool::builder(module).processes(processes).limits(limits).build()?;
    let run = pool.func("run")?;
    Ok(Tenant { pool, run })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Before the runtime has threads: this program is its own worker.
    wpool::init();
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:0".to_owned());
    let path = std::env::args().nth(2);
    let path =
        path.as_deref().unwrap_or(concat!(env!("CARGO_MANIFEST_DIR"), "/../../guest/prebuilt/failing.wasm"));
    let module = Module::load(path)?;
    let free = Limits::default().time(Duration::from_millis(500)).memory(16 << 20).input(1 << 20);
    let paid = Limits::default().time(Duration::from_secs(60));
    let tenants = HashMap::from([("free", tenant(&module, 1, free)?), ("paid", tenant(&module, 2, paid)?)]);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(address, Arc::new(tenants)))
}

async fn serve(address: String, tenants: Tenants) -> Result<(), Box<dyn std::error::Error>> {
    let routes =
        Router::new().route("/run", post(run)).route("/ready", get(ready)).with_state(tenants.clone());
    let listener = TcpListener::bind(address).await?;
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    println!("http://{}", listener.local_addr()?);
    let asked_to_end = async move {
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
    };
    // Takes no more connections, and answers the requests that it has.
    axum::serve(listener, routes).with_graceful_shutdown(asked_to_end).await?;
    for tenant in tenants.values() {
        tenant.pool.close().await;
    }
    println!("ended in good order");
    Ok(())
}

/// When this future is dropped, because the client has gone away, so is the call, and its task is cancelled.
async fn run(State(tenants): State<Tenants>, headers: HeaderMap, body: Bytes) -> (StatusCode, Vec<u8>) {
    let name = headers.get("x-tenant").and_then(|name| name.to_str().ok()).unwrap_or("free");
    let Some(tenant) = tenants.get(name) else {
        return (StatusCode::UNAUTHORIZED, b"no such tenant".to_vec());
    };
    match tenant.pool.call(&tenant.run, body.into()).await {
        Ok(result) => (StatusCode::OK, result),
        Err(error) => (status_of(&error), error.to_string().into_bytes()),
    }
}

/// By whose fault the request has no result.
fn status_of(error: &TaskError) -> StatusCode {
    match error {
        TaskError::Limit { limit: Limit::Time, .. } => StatusCode::GATEWAY_TIMEOUT,
        TaskError::Limit { limit: Limit::Input, .. } => StatusCode::PAYLOAD_TOO_LARGE,
        TaskError::Cancelled | TaskError::Closed | TaskError::Broken { .. } => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        TaskError::Failed { .. } | TaskError::BadRecord { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        // The guest's code has ended in a way that its record alone does not explain.
        _ => StatusCode::BAD_GATEWAY,
    }
}

async fn ready(State(tenants): State<Tenants>) -> (StatusCode, String) {
    for tenant in tenants.values() {
        if let Err(error) = tenant.pool.ready().await {
            return (StatusCode::SERVICE_UNAVAILABLE, error.to_string());
        }
    }
    (StatusCode::OK, "ready".to_owned())
}
