//! Tests of schedules and tenants in the public Rust API.

use std::time::Duration;

use cloacina::{
    Context, CronSchedule, ErrorCode, ExecutionStatus, Overlap, TaskError, TickOutcome, Timestamp,
    task, workflow,
};

use super::support::{PATIENCE, databases, start};

#[task]
async fn note(context: &mut Context) -> Result<(), TaskError> {
    let due: String = context.get("scheduled_time")?;
    context.set("noted", due)?;
    Ok(())
}

#[tokio::test]
async fn f6_schedule_fires_and_can_be_disabled_changed_and_deleted() {
    let workflow = workflow! { name: "noted", tasks: [note] };
    for database in databases() {
        let runner = start(&database).await;
        let input = Context::from_json(r#"{"who":"me"}"#).unwrap();
        let every_second = || {
            CronSchedule::new(&workflow, "* * * * * *")
                .input(input.clone())
                .overlap(Overlap::Skip)
        };
        let id = runner.add_cron_schedule(every_second()).await.unwrap();
        assert_eq!(runner.add_cron_schedule(every_second()).await.unwrap(), id);
        let end = std::time::Instant::now() + PATIENCE;
        let fired = loop {
            let history = runner.get_cron_execution_history(id, 10, 0).await.unwrap();
            if let Some(tick) = history.into_iter().find(|tick| tick.execution.is_some()) {
                break tick;
            }
            assert!(std::time::Instant::now() < end, "no tick has fired");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert_eq!(fired.outcome, TickOutcome::Fired);
        let execution = runner.handle(fired.execution.unwrap());
        let result = execution.result_within(PATIENCE).await.unwrap();
        let context = result.final_context();
        assert_eq!(context.get::<String>("who").unwrap(), "me");
        assert_eq!(
            context.get::<String>("noted").unwrap(),
            fired.scheduled_time.to_rfc3339()
        );
        let stats = runner.get_cron_execution_stats(Timestamp(0)).await.unwrap();
        assert!(stats.fired >= 1 && stats.missed == 0, "{stats:?}");

        let off = runner.set_cron_schedule_enabled(id, false).await.unwrap();
        assert!(!off.is_enabled());
        assert!(runner.list_cron_schedules(true).await.unwrap().is_empty());
        let reasons = runner.explain_cron_schedule(id).await.unwrap();
        assert!(reasons[0].contains("is disabled"), "{reasons:?}");
        let yearly = runner
            .update_cron_schedule(id, Some("0 0 1 1 *"), Some("Europe/Berlin"))
            .await
            .unwrap();
        assert_eq!(yearly.cron_expression(), "0 0 1 1 *");
        let by_hand = runner.run_cron_schedule_now(id).await.unwrap();
        let result = runner
            .handle(by_hand)
            .result_within(PATIENCE)
            .await
            .unwrap();
        assert_eq!(result.status(), ExecutionStatus::Completed);
        runner.delete_cron_schedule(id).await.unwrap();
        let gone = runner.get_cron_schedule(id).await.unwrap_err();
        assert_eq!(gone.code, ErrorCode::ScheduleNotFound);
        let history = runner.get_cron_execution_history(id, 1, 0).await.unwrap();
        assert_eq!(history[0].execution, Some(by_hand));
        runner.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn f1_invalid_schedule_is_refused() {
    for database in databases() {
        let runner = start(&database).await;
        for (expression, zone) in [
            ("61 * * * *", "UTC"),
            ("0 0 30 2 *", "UTC"),
            ("@daily", "Berlin"),
        ] {
            let refused = runner.register_cron_workflow("etl", expression, zone).await;
            assert_eq!(refused.unwrap_err().code, ErrorCode::ScheduleInvalid);
        }
        assert!(runner.list_cron_schedules(false).await.unwrap().is_empty());
        // An unknown workflow is accepted, because another program can define it.
        let id = runner
            .register_cron_workflow("elsewhere", "@daily", "Europe/Berlin")
            .await
            .unwrap();
        let reasons = runner.explain_cron_schedule(id).await.unwrap();
        assert!(reasons[0].contains("no program has stored"), "{reasons:?}");
        let refused = runner.run_cron_schedule_now(id).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::WorkflowNotFound);
        runner.shutdown().await.unwrap();
    }
}

/// Tenants in one process share the workers and the connections of one runner, but each sees only its own executions.
#[cfg(feature = "postgres")]
#[tokio::test]
async fn h4_tenants_share_workers_but_not_executions() {
    let workflow = workflow! { name: "noted", tasks: [note] };
    for database in databases() {
        let runner = start(&database).await;
        if database.schema.is_none() {
            let refused = runner.tenant("acme", None).await.unwrap_err();
            assert!(
                refused.message.contains("SQLite has no schemas"),
                "{refused}"
            );
            runner.shutdown().await.unwrap();
            continue;
        }
        let names = ["a", "b"].map(|name| format!("{}_{name}", database.schema.as_ref().unwrap()));
        let mut tenants = Vec::new();
        for name in &names {
            tenants.push(runner.tenant(name, None).await.unwrap());
        }
        let input = Context::from_json(r#"{"scheduled_time":"now"}"#).unwrap();
        for tenant in &tenants {
            let result = tenant.execute(&workflow, input.clone()).await.unwrap();
            result.into_completed().unwrap();
            let listed = tenant
                .list_executions(cloacina::ExecutionFilter::default())
                .await
                .unwrap();
            assert_eq!(listed.items.len(), 1);
        }
        let nested = tenants[0].tenant("c", None).await.unwrap_err();
        assert_eq!(nested.code, ErrorCode::Configuration);
        let own = runner
            .list_executions(cloacina::ExecutionFilter::default())
            .await
            .unwrap();
        assert!(own.items.is_empty());
        runner.shutdown().await.unwrap();
        let closed = tenants[0]
            .execute(&workflow, input.clone())
            .await
            .unwrap_err();
        assert_eq!(closed.code, ErrorCode::RunnerClosed);
    }
}
