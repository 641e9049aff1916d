;; EXPECT reject-type: run takes and gives floats; the message shows expected and found
(module
(memory (export "memory") 2)
(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
(func (export "run") (param f32 f64) (result f32) (local.get 0)))
