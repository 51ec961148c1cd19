//! What all generations on a node share.

use std::sync::Arc;

use crate::contract::host_data::HostData;
use crate::guest_log::Logs;
use crate::recording::recorder::Recorder;
use crate::runtime::executor::Executor;
use crate::runtime::incident::Reporter;
use crate::runtime::metrics::Labels;
use crate::runtime::pool::Pool;
use crate::runtime::scheduler::Scheduler;

pub(crate) struct Shared {
    pub(crate) pool: Arc<Pool>,
    pub(crate) scheduler: Arc<Scheduler>,
    pub(crate) executor: Executor,
    pub(crate) labels: Arc<Labels>,
    pub(crate) logs: Arc<Logs>,
    pub(crate) reporter: Reporter,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) data: Arc<dyn HostData>,
}
