//! What a call of a handler can come to beside effects.

/// Why an event has no effects.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The handler found the event malformed; its text is for the sender.
    #[error("failed to take the event: {0}")]
    Invalid(String),
    /// The handler does not want the event; its text is for the sender.
    #[error("failed to take the event, the handler refused: {0}")]
    Denied(String),
    /// The handler asks to be tried again after so many milliseconds.
    #[error("failed to take the event now, the handler asks for {0} ms")]
    Retry(u32),
    /// The handler named a message that cannot be one.
    #[error("failed to take the event: it names a message that is no message")]
    UnknownMessage,
    /// The handler says it is at fault, or returned what cannot be applied. The text is for the operator.
    #[error("failed to run the handler: {0}")]
    Failed(String),
    /// The handler broke off. The text is for the operator; where it was is in the plugin's log.
    #[error("failed to run the handler: {0}")]
    Trapped(String),
    /// The handler used up its time.
    #[error("failed to run the handler within its time")]
    TimedOut,
    /// Too many calls of this tenant are waiting.
    #[error("failed to run the handler: too many calls are waiting")]
    Busy,
}

impl CallError {
    /// Whether the handler is at fault, so that whoever runs it should know.
    pub fn is_fault(&self) -> bool {
        matches!(self, CallError::Failed(_) | CallError::Trapped(_) | CallError::TimedOut)
    }

    /// A word for metrics.
    pub fn word(&self) -> &'static str {
        match self {
            CallError::Invalid(_) | CallError::UnknownMessage => "invalid",
            CallError::Denied(_) => "denied",
            CallError::Retry(_) => "retry",
            CallError::Failed(_) => "failed",
            CallError::Trapped(_) => "trapped",
            CallError::TimedOut => "timed_out",
            CallError::Busy => "busy",
        }
    }
}
