"""Celery, set up as a doorbell: it carries `{step_id, dispatch_no}` and nothing depends on it.

Messages may come late, twice or never. PostgreSQL knows what is to be done; a lost message is rung again by the controller
and a repeated one finds its step taken. So: acknowledged early, no prefetch, no results, nothing scheduled in the broker.
"""

from collections.abc import Sequence

from celery import Celery

RUN_STEP = "multifacet.run_step"
"""Name of the one task. Keyword arguments: step_id (str), dispatch_no (int)."""


def create_app(redis_url: str, queues: Sequence[str]) -> Celery:
    """The Celery application of this process. `queues` are declared; the names are those of the services."""
    app = Celery("multifacet", broker=redis_url, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_acks_late=False,
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        task_queues={name: {} for name in queues},
        task_create_missing_queues=True,
        task_publish_retry=False,
        worker_disable_prefetch=True,
        worker_prefetch_multiplier=0,  # no limit of its own: none is taken that no thread is free for
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "socket_timeout": 5,
            "socket_connect_timeout": 2,
            "socket_keepalive": True,
            "retry_on_timeout": False,
            # A silent connection to a broker that answers others is given up after 1 s and twice this; by default after 51 s.
            "health_check_interval": 5,
            "priority_steps": [0],  # by default each queue is four lists, and every wait names them all
        },
    )
    return app
