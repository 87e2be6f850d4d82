//! `postStart` and `preStop`.

use std::time::Duration;

use k8s_openapi::api::core::v1::LifecycleHandler;

use super::action::Target;

/// Runs a hook to its end; the error is what it said.
pub(super) async fn run(target: &Target, hook: &LifecycleHandler) -> Result<(), String> {
    if let Some(exec) = &hook.exec {
        target.exec(exec.command.as_deref().unwrap_or_default()).await.map(drop)
    } else if let Some(http) = &hook.http_get {
        target.http(http).await
    } else if let Some(sleep) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
        Ok(())
    } else if let Some(tcp) = &hook.tcp_socket {
        target.tcp(tcp.host.as_deref(), &tcp.port).await
    } else {
        Err("the hook has no handler".to_owned())
    }
}
