"""What the dashboard's rows ask of Prometheus, and how each answer is shown.

Knows the metrics of the worker and of RabbitMQ's own exporter; must not know how a dashboard is laid out or written.
"""

from devkit.panels import Panel, Query, heat, lines, number

SETTLED = 'outcome!="postponed"'
FAILED = 'outcome="failed"'
FAULTY = 'result="error"'
TASKS = 'queue=~"$queue"'
PARKED = 'queue=~".+[.]dead[.].+"'


def worker(metric: str, where: str = "") -> str:
    """Select a metric of the chosen workers."""
    return f'frame_capture_{metric}{{namespace=~"$namespace"{where and ","}{where}}}'


def rate(metric: str, by: str = "", where: str = "") -> str:
    """Sum a metric's growth per second over the chosen workers, or give a sum for each value of the labels `by`."""
    return f"sum{f' by ({by}) ' if by else ''}(rate({worker(metric, where)}[$__rate_interval]))"


def quantiles(metric: str, by: str = "", where: str = "", which: tuple[float, ...] = (0.5, 0.95, 0.99)) -> list[Query]:
    """Ask for quantiles of a histogram."""
    labels = ", ".join(filter(None, ("le", by)))
    name = f"{{{{{by}}}}} " if by else ""
    return [
        Query(f"histogram_quantile({each}, {rate(f'{metric}_bucket', labels, where)})", f"{name}p{each * 100:g}")
        for each in which
    ]


def most(expr: str) -> str:
    """Keep ten series at each time: a hundred workers' lines cannot be told apart."""
    return f"topk(10, {expr})"


def overview() -> list[Panel]:
    """Tell at a glance: is it keeping up, is it failing."""
    (wait,) = quantiles("queue_wait_seconds", which=(0.95,))
    failed = f"{rate('tasks_total', where=FAILED)} / {rate('tasks_total', where=SETTLED)}"
    # A slot whose decoder died at work is busy while another is started, which does not live yet.
    busy = f"clamp_max(sum({worker('decoders_busy')}) / sum({worker('decoders')}), 1)"
    return [
        number("Tasks over", "Tasks that ended, per second, whatever came of them.", "ops",
               rate("tasks_total", where=SETTLED)),
        number("Failed", "Share of the tasks that ended as failed.", "percentunit", failed, warn=0.05),
        number("Backlog", "Messages that no worker has yet, in the chosen queues.", "short",
               f"sum(rabbitmq_detailed_queue_messages_ready{{{TASKS}}})"),
        number("Wait, p95", "One task in twenty waited longer than this for a worker.", "s", wait.expr, warn=600),
        number("Slots busy", "Share of the decoder processes that are at work.", "percentunit", busy),
        number("Workers", "Workers that consume.", "short", f"sum({worker('consuming')})"),
    ]  # fmt: skip


def throughput() -> list[Panel]:
    """Show what is done."""
    ours = 'project=~"$project"'
    return [
        lines("Tasks by outcome", "Attempts settled per second. Postponed ones are tried again.", "ops",
              Query(rate("tasks_total", "outcome"), "{{outcome}}"), stacked=True),
        lines("Tasks by project", "Attempts settled per second of the chosen projects.", "ops",
              Query(rate("project_tasks_total", "project", ours), "{{project}}"), stacked=True),
        lines("Failures by project", "Share of the attempts that failed, of the chosen projects.", "percentunit",
              Query(f"{rate('project_tasks_total', 'project', f'{ours},{FAILED}')}"
                    f" / {rate('project_tasks_total', 'project', ours)}", "{{project}}")),
        lines("Images", "Images stored per second, by mode and format.", "ops",
              Query(rate("frames_total", "mode, format"), "{{mode}} {{format}}"), stacked=True),
        lines("Images by project", "Images stored per second of the chosen projects.", "ops",
              Query(rate("project_frames_total", "project", ours), "{{project}}"), stacked=True),
        lines("Frames decoded for each image", "Many means long ways from keyframes, or thresholds that few pass.",
              "short", Query(f"{rate('frames_decoded_total')} / {rate('frames_total')}", "decoded per image")),
    ]  # fmt: skip


def backlog() -> list[Panel]:
    """Show what is still to do."""
    ready = f"sum by (queue) (rabbitmq_detailed_queue_messages_ready{{{TASKS}}})"
    unacked = f"sum by (queue) (rabbitmq_detailed_queue_messages_unacked{{{TASKS}}})"
    consumers = f"sum by (queue) (rabbitmq_detailed_queue_consumers{{{TASKS}}})"
    drained = f"sum(rabbitmq_detailed_queue_messages_ready{{{TASKS}}}) / {rate('tasks_total', where=SETTLED)}"
    return [
        lines("Messages", "Waiting for a worker, and held by one.", "short",
              Query(ready, "{{queue}} ready"), Query(unacked, "{{queue}} held"), stacked=True),
        lines("Time to drain", "How long the backlog lasts at the present rate, if nothing comes.", "s",
              Query(drained, "time to drain")),
        lines("Consumers", "Workers that take from the queue, as the broker counts them.", "short",
              Query(consumers, "{{queue}}")),
        heat("Wait", "From a message's timestamp to its first receipt.", "s",
             rate("queue_wait_seconds_bucket", "le"), per_row=2),
        lines("Wait, quantiles", "From a message's timestamp to its first receipt.", "s",
              *quantiles("queue_wait_seconds"), per_row=2),
    ]  # fmt: skip


def stages() -> list[Panel]:
    """Show where time goes."""
    chosen = 'stage=~"$stage"'
    return [
        heat("Task", "From receiving a task to settling it.", "s", rate("task_seconds_bucket", "le")),
        lines("Task, quantiles", "From receiving a task to settling it.", "s", *quantiles("task_seconds")),
        lines("Where time goes", "Seconds spent in each stage, per second. Stages of one task overlap.", "short",
              Query(rate("stage_seconds_sum", "stage"), "{{stage}}"), stacked=True),
        lines("Stages, median", "Time of one task in each stage.", "s",
              *quantiles("stage_seconds", "stage", which=(0.5,)), per_row=2),
        lines("Stages, p95", "Time of one task in each stage.", "s",
              *quantiles("stage_seconds", "stage", which=(0.95,)), per_row=2),
        heat("Stage $stage", "Time of one task in this stage.", "s",
             rate("stage_seconds_bucket", "le", chosen), repeat="stage"),
    ]  # fmt: skip


def trouble() -> list[Panel]:
    """Show what goes wrong, and why."""
    restarts = f"sum by (reason) (increase({worker('decoder_restarts')}[$__rate_interval]))"
    given_up = [
        Query(rate("messages_requeued_total"), "given back"),
        Query(rate("deliveries_joined_total"), "joined a running task"),
        Query(rate("deliveries_deduplicated_total"), "over already"),
        Query(f"sum(rate({worker('acks_lost')}[$__rate_interval]))", "acknowledgement lost"),
    ]
    return [
        lines("Failures by code", "Attempts that failed or were postponed, per second. docs/errors.md explains.", "ops",
              Query(rate("task_failures_total", "code"), "{{code}}"), stacked=True),
        lines("Retries", "Tasks put on a delay queue, per second.", "ops", Query(rate("retries_total"), "retries")),
        lines("Parked by reason", "Messages put on the dead-letter exchange, per second.", "ops",
              Query(rate("tasks_parked_total", "code"), "{{code}}"), stacked=True),
        lines("Parked now", "Messages that wait for somebody: `frame-capture dead list`.", "short",
              Query(f"sum by (queue) (rabbitmq_detailed_queue_messages{{{PARKED}}})", "{{queue}}")),
        lines("Decoder exits by cause", "Decoder processes replaced; `recycled` is as planned.", "short",
              Query(restarts, "{{reason}}"), stacked=True),
        lines("Delivered again", "Messages given back or delivered again, per second.", "ops", *given_up),
    ]  # fmt: skip


def outside() -> list[Panel]:
    """Show the store and the broker as the workers see them."""
    requests = rate("store_requests_total", "operation")
    errors = f"{rate('store_requests_total', 'operation', FAULTY)} / {requests}"
    broken = [
        Query(f"sum(rate({worker(name)}[$__rate_interval]))", legend)
        for name, legend in (
            ("publish_tries_failed", "try failed"),
            ("publish_returned", "no queue took it"),
            ("events_unconfirmed", "progress dropped"),
            ("amqp_reconnects", "reconnected"),
        )
    ]
    return [
        lines("Store requests", "Requests per second.", "reqps",
              Query(requests, "{{operation}}"), stacked=True),
        lines("Store latency, p95", "Time of one request.", "s",
              *quantiles("store_request_seconds", "operation", which=(0.95,))),
        lines("Store errors", "Share of the requests that failed.", "percentunit", Query(errors, "{{operation}}")),
        lines("Bytes", "Bytes per second from and to the store.", "Bps",
              Query(rate("store_read_bytes_total"), "read"), Query(rate("store_written_bytes_total"), "written")),
        lines("Broker latency", "Time until the broker confirmed a message.", "s", *quantiles("publish_seconds")),
        lines("Broker trouble", "Per second: what went wrong with the connection to the broker.", "ops", *broken),
        lines("Connections", "Workers that are connected, that consume, that may not publish, that wait for the store.",
              "short", Query(f"sum({worker('amqp_connected')})", "connected"),
              Query(f"sum({worker('consuming')})", "consuming"), Query(f"sum({worker('amqp_blocked')})", "blocked"),
              Query(f"sum({worker('store_outage')})", "store away"), per_row=2),
        heat("Sources", "Size of the sources.", "bytes", rate("source_bytes_bucket", "le"), per_row=2),
    ]  # fmt: skip


def resources() -> list[Panel]:
    """Show what the workers use."""
    process = '{namespace=~"$namespace"} and on (namespace, pod, instance) ' + worker("build_info")
    cpu = (
        'sum by (instance) (rate(process_cpu_seconds_total{namespace=~"$namespace"}[$__rate_interval])'
        f" and on (namespace, pod, instance) {worker('build_info')})"
    )
    return [
        lines("Slots", "Decoder processes that live and that work, and tasks that are held.", "short",
              Query(f"sum({worker('decoders')})", "decoders"), Query(f"sum({worker('decoders_busy')})", "busy"),
              Query(f"sum({worker('tasks_in_flight')})", "tasks held")),
        lines("Largest decoder", "Resident memory of each worker's largest decoder; the ten workers with the most.",
              "bytes", Query(most(f"max by (instance) ({worker('decoder_max_rss_bytes')})"), "{{instance}}")),
        lines("Memory of the worker itself", "Resident memory without decoders; the ten workers with the most.",
              "bytes", Query(most(f"max by (instance) (process_resident_memory_bytes{process})"), "{{instance}}")),
        lines("CPU of the worker itself", "Cores used without decoders; the ten workers with the most.", "short",
              Query(most(cpu), "{{instance}}")),
        lines("Last success", "Time since a task last succeeded anywhere.", "s",
              Query(f"time() - max({worker('last_success_timestamp_seconds')} > 0)", "since the last success")),
        lines("Versions", "Workers by version.", "short",
              Query(f"count by (version, ffmpeg) ({worker('build_info')})", "{{version}}, FFmpeg {{ffmpeg}}")),
    ]  # fmt: skip


ROWS = {
    "Is it keeping up, is it failing": overview,
    "What is done": throughput,
    "What is to do": backlog,
    "Where time goes": stages,
    "What goes wrong": trouble,
    "Store and broker": outside,
    "What it uses": resources,
}
