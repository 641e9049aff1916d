;; EXPECT ok, limit, trap or timeout: poll_oneoff of a million subscriptions
(module
(import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
(memory (export "memory") 900)
(func (export "_start") (drop (call $poll (i32.const 0) (i32.const 0) (i32.const 1000000) (i32.const 128)))))
