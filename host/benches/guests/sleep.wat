;; A command that sleeps for 100 seconds in a call to the host, whatever its record is.
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    ;; One subscription at address 0: to the monotonic clock, for a time from now on, in nanoseconds.
    (i32.store (i32.const 16) (i32.const 1))
    (i64.store (i32.const 24) (i64.const 100000000000))
    (if (call $poll (i32.const 0) (i32.const 256) (i32.const 1) (i32.const 512)) (then unreachable))))
