/* Stored models and datasets as the engine wants them. Thread: any. */
#ifndef SRV_ITEMS_H
#define SRV_ITEMS_H

#include "engine/shrink.h"
#include "srv.h"

/* A stored dataset, read with the options it was uploaded with. */
int srv_dataset_load(struct srv *srv, const char *name_or_id, struct shr_dataset **ret,
                     struct shr_err *err) SHR_MUSTCHECK;

#endif
