//! Makes a component from a handler, and rejects at compile time what the broker would refuse at deployment.

use crate::Handler;
use crate::handler::is_name;

/// Makes a type that implements [`Handler`] the plugin of this crate. Use it once per crate.
///
/// For a native target, where tests run, it only checks the plugin's description: a name or a number of kinds that the
/// broker would refuse does not compile:
///
/// ```compile_fail,E0080
/// # use switchboard_plugin_sdk::prelude::*;
/// #[derive(Default)]
/// struct Nameless;
/// impl Handler for Nameless {
///     const NAME: &'static str = "no such name";
///     const VERSION: &'static str = "1.0.0";
///     const KINDS: &'static [Kind] = &[Kind::durable("note")];
///     fn handle(&mut self, _event: Event, _host: &impl Host) -> Outcome {
///         Ok(vec![])
///     }
/// }
/// export!(Nameless);
/// ```
#[macro_export]
macro_rules! export {
    ($handler:ty) => {
        const _: () = $crate::check::<$handler>();

        #[cfg(target_family = "wasm")]
        const _: () = {
            ::std::thread_local! {
                static INSTANCE: ::std::cell::RefCell<$handler> = ::std::default::Default::default();
            }

            struct Exported;

            impl $crate::guest::Guest for Exported {
                fn describe() -> $crate::guest::Descriptor {
                    $crate::guest::describe::<$handler>()
                }

                fn init(config: ::std::string::String) -> ::std::result::Result<(), ::std::string::String> {
                    INSTANCE.with_borrow_mut(|handler| $crate::guest::init(handler, &config))
                }

                fn handle(event: $crate::guest::Event) -> $crate::guest::Outcome {
                    INSTANCE.with_borrow_mut(|handler| $crate::guest::handle(handler, event))
                }

                fn stored(message: $crate::guest::Message, context: $crate::guest::Context) -> $crate::guest::Outcome {
                    INSTANCE.with_borrow_mut(|handler| $crate::guest::stored(handler, message, context))
                }
            }

    $crate::guest::bindings::export!(Exported with_types_in $crate::guest::bindings);
        };
    };
}

/// Fails to compile a plugin that the broker would refuse to deploy.
#[doc(hidden)]
pub const fn check<H: Handler>() {
    assert!(is_name(H::NAME, b"-"), "a plugin's name must be 1 to 64 characters from a-z, 0-9 and '-'");
    assert!(!H::VERSION.is_empty(), "a plugin must have a version");
    assert!(!H::KINDS.is_empty() || !H::WATCHES.is_empty(), "a plugin must handle or watch at least one kind");
    assert!(
        H::KINDS.len() <= 32 && H::WATCHES.len() <= 32,
        "a plugin can handle at most 32 kinds and watch at most 32"
    );
    let mut at = 0;
    while at < H::WATCHES.len() {
        assert!(
            is_name(H::WATCHES[at], b"._-"),
            "a kind's name must be 1 to 64 characters from a-z, 0-9, '.', '_' and '-'"
        );
        at += 1;
    }
}
