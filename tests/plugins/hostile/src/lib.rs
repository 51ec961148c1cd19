//! Does everything that a plugin must not do, one kind each, so that the tests can show that it harms only itself.

use serde::Deserialize;
use switchboard_plugin_sdk::prelude::*;

#[derive(Debug, Default)]
struct Hostile {
    kept: Vec<Vec<u8>>,
    calls: u64,
}

#[derive(Deserialize)]
struct Torn {
    message_id: String,
}

impl Handler for Hostile {
    const NAME: &'static str = env!("CARGO_PKG_NAME");
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const KINDS: &'static [Kind] = &[
        Kind::durable("hostile.trap"),
        Kind::durable("hostile.loop"),
        Kind::durable("hostile.grow"),
        Kind::durable("hostile.recurse"),
        Kind::durable("hostile.many"),
        Kind::durable("hostile.big"),
        Kind::durable("hostile.huge"),
        Kind::durable("hostile.alias"),
        Kind::durable("hostile.random"),
        Kind::durable("hostile.reads"),
        Kind::durable("hostile.ask"),
        Kind::durable("hostile.half"),
        Kind::durable("hostile.torn"),
        Kind::durable("hostile.look"),
        Kind::durable("hostile.last"),
        Kind::durable("hostile.print"),
        Kind::durable("hostile.calls"),
        Kind::ephemeral("hostile.drop"),
        Kind::durable("hostile.watched"),
        // One of the built-in ones, to be taken over.
        Kind::durable("typing"),
    ];
    const WATCHES: &'static [&'static str] = &["hostile.watched"];

    fn handle(&mut self, event: Event, host: &impl Host) -> Outcome {
        self.calls += 1;
        match event.kind.as_str() {
            "hostile.loop" => loop {
                std::hint::black_box(());
            },
            "hostile.grow" => loop {
                self.kept.push(vec![1; 1 << 20]);
            },
            "hostile.recurse" => Ok(vec![said(&deep(0).to_string())?]),
            "hostile.many" => Ok(vec![said("spam")?; 10_000]),
            "hostile.big" => Ok(vec![said(&"x".repeat(2 << 20))?]),
            // Ten megabytes, in pieces that fit into its memory twice.
            "hostile.huge" => Ok(vec![said(&"x".repeat(2 << 20))?; 5]),
            "hostile.alias" => Ok(one_text_many_times()),
            "hostile.random" => Ok(vec![said(&random(64 << 20).to_string())?]),
            "hostile.ask" => loop {
                let _ = host.online();
            },
            "hostile.reads" => {
                let read = (0..1_000).take_while(|_| host.online().is_ok()).count();
                Ok(vec![said(&read.to_string())?])
            }
            // A good effect and then one that cannot be applied: neither may be.
            "hostile.half" => Ok(vec![said("half")?, Effect::mark_read("message.read", uuid_of_nothing())]),
            // One of each kind of effect, and then one that cannot be applied.
            "hostile.torn" => {
                let Torn { message_id } = event.payload()?;
                Ok(vec![
                    said("torn")?,
                    Effect::amend(&message_id, "torn")?,
                    Effect::kv_put(KvWrite::json("torn", &true)?),
                    Effect::mark_read("message.read", &message_id),
                    Effect::broadcast(Signal::to_channel("hostile.signal", &json!({}))?),
                    Effect::delete(uuid_of_nothing()),
                ])
            }
            "hostile.look" => Ok(vec![said(if host.kv_get("torn")?.is_some() { "torn" } else { "whole" })?]),
            "hostile.last" => {
                let last = host.recent(None, 1)?.first().and_then(Message::content::<String>);
                Ok(vec![said(&format!("last was {}", last.unwrap_or_default()))?])
            }
            "hostile.print" => {
                for line in 0..100 {
                    println!("printed line {line} {}", "x".repeat(3_000));
                }
                Ok(Vec::new())
            }
            "hostile.calls" => Ok(vec![said(&self.calls.to_string())?]),
            "hostile.watched" => {
                let Watched { how } = event.payload()?;
                Ok(vec![Effect::store(Draft::new("hostile.watched", &how)?)])
            }
            "typing" => Err(Failure::denied("typing is mine now")),
            _ => panic!("a secret of the plugin"),
        }
    }

    fn stored(&mut self, message: Message, _context: Context, _host: &impl Host) -> Outcome {
        let how: String = message.content().unwrap_or_default();
        let answer =
            |kind: &str, text: &str| Ok(vec![Effect::store(Draft::new(kind, text)?.reply_to(message.id.clone()))]);
        match how.as_str() {
            // The instance that handled the message traps, and a new one, of another try, does not.
            "trap once" if self.calls > 0 => panic!("a first try"),
            "trap" => panic!("each try"),
            "deny" => Err(Failure::denied("it is not worth an answer")),
            "internal" => Err(Failure::internal("a read failed")),
            "echo" => answer("hostile.watched", "echo"),
            _ => answer("hostile.answer", &message.seq.to_string()),
        }
    }
}

#[derive(Deserialize)]
struct Watched {
    how: String,
}

export!(Hostile);

fn said(text: &str) -> Result<Effect, Failure> {
    Ok(Effect::store(Draft::new("chat.message", text)?))
}

fn uuid_of_nothing() -> &'static str {
    "00000000-0000-7000-8000-000000000000"
}

/// Twenty thousand messages whose content is the same mebibyte, which the guest has once and a host that copies has as
/// often.
#[expect(unsafe_code, reason = "that is the point: the host is given one address again and again")]
fn one_text_many_times() -> Vec<Effect> {
    let text = Box::leak(vec![b'1'; 1 << 20].into_boxed_slice());
    let again = || {
        // SAFETY: none of them is ever freed, since the host traps before it gives anything back.
        let content = unsafe { String::from_raw_parts(text.as_ptr().cast_mut(), text.len(), 0) };
        Effect::store(Draft { kind: String::new(), content, reply_to: None, attachments: Vec::new() })
    };
    (0..20_000).map(|_| again()).collect()
}

/// Asks the host for so many random bytes at once.
fn random(bytes: u64) -> usize {
    #[cfg(target_os = "wasi")]
    return wasip2::random::random::get_random_bytes(bytes).len();
    #[cfg(not(target_os = "wasi"))]
    return usize::try_from(bytes).unwrap_or_default();
}

#[expect(unconditional_recursion, reason = "that is the point")]
fn deep(level: u64) -> u64 {
    let frame = [level; 64];
    std::hint::black_box(&frame);
    deep(std::hint::black_box(level) + 1) + frame[0]
}
