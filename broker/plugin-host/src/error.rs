//! How a handler call can end without effects.

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The handler found the event malformed. The text goes to the sender.
    #[error("failed to handle the event: {0}")]
    Invalid(String),
    /// The handler refused the event. The text goes to the sender.
    #[error("failed to handle the event: the handler refused it: {0}")]
    Denied(String),
    /// The handler asks for another attempt after this many milliseconds.
    #[error("failed to handle the event: the handler asks to retry after {0} ms")]
    Retry(u32),
    /// The handler named a message by something that is not a message id.
    #[error("failed to handle the event: it names a message that does not exist")]
    UnknownMessage,
    /// The handler reported a fault of its own, or returned effects that cannot be applied. The text is for the
    /// operator.
    #[error("failed to run the handler: {0}")]
    Failed(String),
    /// The handler trapped. The text is for the operator; the backtrace is in the guest log.
    #[error("failed to run the handler: {0}")]
    Trapped(String),
    /// The handler exceeded its processor time or its deadline.
    #[error("failed to run the handler within its time")]
    TimedOut,
    /// The call was refused for lack of capacity: the tenant's queue is full, the wait was too long, or there is no
    /// instance to spare. The handler was not called.
    #[error("failed to run the handler: too many calls are waiting")]
    Busy,
}

impl CallError {
    /// Whether the operator has to look at the handler. A handler that refuses an event is not at fault.
    pub fn is_fault(&self) -> bool {
        matches!(self, CallError::Failed(_) | CallError::Trapped(_) | CallError::TimedOut)
    }

    /// The value of the `result` label in metrics.
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
