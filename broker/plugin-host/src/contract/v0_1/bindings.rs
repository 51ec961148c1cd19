//! Generated host bindings of `wit/0.1.0`.

#![allow(missing_docs, unreachable_pub, reason = "the documents are in the WIT")]

wasmtime::component::bindgen!({
    path: "../../wit/0.1.0",
    imports: {
        "switchboard:plugin/log": trappable,
        default: async | trappable,
    },
    exports: { default: async },
});
