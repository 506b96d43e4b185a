//! The methods of `DefaultRunner` for maps: read their items, and change a running map (semantics K).

use serde::de::DeserializeOwned;

use super::decoding::decode_text;
use super::{DefaultRunner, ErrorInfo, MapItem};
use crate::types::{Error, ErrorCode, ExecutionId, ItemRecord, TaskStatus};

/// Maximum number of items on a page.
const PAGE: usize = 1_000;

/// A page of a map's items, in the order of the list.
///
/// Since 1.0.
#[derive(Clone, Debug)]
pub struct MapPage<T> {
    /// The items.
    pub items: Vec<MapItem<T>>,
    /// The cursor of the next page; `None` on the last page.
    pub next: Option<u32>,
}

impl<T: DeserializeOwned> MapItem<T> {
    fn of_record(task: &str, record: &ItemRecord) -> Result<Self, Error> {
        let index = record.item;
        let value = if record.status == TaskStatus::Completed {
            let text = record.result.as_ref().map_or("null", |json| json.as_str());
            let value = decode_text(text).map_err(|problem| {
                let name = std::any::type_name::<T>();
                let message =
                    format!("the result of item {task}[{index}] is not a {name}: {problem}");
                Error::new(ErrorCode::ContextInvalid, message)
            })?;
            Some(value)
        } else {
            None
        };
        let item = || Some(format!("{task}[{index}]"));
        let error = record.error.as_ref();
        Ok(Self {
            index,
            status: record.status,
            value,
            error: error.map(|failure| ErrorInfo::new(failure, item())),
            attempts: record.attempt,
            started_at: record.started_at,
            ended_at: record.ended_at,
        })
    }
}

impl DefaultRunner {
    /// Lists the items of a map in the order of its list, at most 1,000 on a page. An item that has not started is `Pending`.
    /// If the map ends before the item starts, the item is `Cancelled`; in an aligned map it is `Skipped` if the source never
    /// produced its element.
    ///
    /// `status`: lists only items in this state. `cursor`: [`MapPage::next`] of the previous page; `None` for the first page.
    ///
    /// # Errors
    /// `ExecutionNotFound`; `TaskInvalid` for a task that is not a map; `ContextInvalid` when the result of an item does not
    /// have the type `T`; `Database` or `Connection`.
    ///
    /// # Examples
    ///
    #[cfg_attr(feature = "sqlite", doc = "```")]
    #[cfg_attr(not(feature = "sqlite"), doc = "```ignore")]
    /// use cloacina::{Context, DefaultRunner, TaskError, TaskStatus, task, workflow};
    ///
    /// #[task(over = "numbers", tolerate = 1, retry_attempts = 1)]
    /// async fn invert(number: f64) -> Result<f64, TaskError> {
    ///     if number == 0.0 {
    ///         return Err(TaskError::new("division by zero"));
    ///     }
    ///     Ok(1.0 / number)
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let inverted = workflow! { name: "inverted", tasks: [invert] };
    /// let runner = DefaultRunner::new(":memory:").await?;
    /// let input = Context::from_json(r#"{"numbers": [0, 2, 4]}"#)?;
    /// let id = runner.execute(&inverted, input).await?.execution_id();
    ///
    /// let (mut values, mut cursor) = (Vec::new(), None);
    /// loop {
    ///     let page = runner.items::<f64>(id, "invert", Some(TaskStatus::Completed), cursor).await?;
    ///     values.extend(page.items.into_iter().filter_map(|item| item.value));
    ///     cursor = page.next;
    ///     if cursor.is_none() {
    ///         break;
    ///     }
    /// }
    /// assert_eq!(values, [0.5, 0.25]);
    /// # runner.shutdown().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Since 1.0.
    pub async fn items<T: DeserializeOwned>(
        &self,
        execution: ExecutionId,
        task: impl AsRef<str>,
        status: Option<TaskStatus>,
        cursor: Option<u32>,
    ) -> Result<MapPage<T>, Error> {
        let task = task.as_ref();
        let (id, from) = (task.to_owned(), cursor.unwrap_or_default());
        let read = (self.engine)
            .read(move |engine| engine.inspector().items(execution, &id, status, from, PAGE));
        let page = read.await?;
        let items = page.items.iter();
        Ok(MapPage {
            items: items
                .map(|record| MapItem::of_record(task, record))
                .collect::<Result<_, Error>>()?,
            next: page.next,
        })
    }

    /// Changes a running map's limit on concurrent items, counted over all runners; `None` means as many as there are workers.
    /// Items that already run continue, so a lower limit takes effect as they end.
    ///
    /// # Errors
    /// `ExecutionNotFound`; `TaskInvalid` for a task that is not a map, or if `parallel` is 0; `ExecutionState` for a map
    /// that is not running; `Database` or `Connection`.
    ///
    /// Since 1.0.
    pub async fn set_map(
        &self,
        execution: ExecutionId,
        task: impl AsRef<str>,
        parallel: Option<u32>,
    ) -> Result<(), Error> {
        let task = task.as_ref().to_owned();
        (self.engine)
            .read(move |engine| engine.inspector().set_map(execution, &task, parallel))
            .await
    }
}
