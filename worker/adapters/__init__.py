"""The world: one technology in each module, ignorant of the others. Only `worker.service` names them."""
