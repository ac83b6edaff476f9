#pragma once

namespace normlab::common {

// Exit codes of normlab-worker that its executor understands; all others are crashes.
inline constexpr int kExitDone = 0;
// Not started the way normlabd starts it.
inline constexpr int kExitUsage = 2;
// One of several processes under srun was told to end by SIGTERM, as srun does to all when one has
// ended badly. Less than all that follow: srun ends with the highest code of its processes, so that
// another's reason is told.
inline constexpr int kExitRankTerminated = 4;
// As kExitUsage, of such a process.
inline constexpr int kExitRankUsage = 64;
// The server refused the attempt (superseded, ended, wrong secret), or its folder is gone.
inline constexpr int kExitFenced = 85;
// Memory ran out where no outcome could be reported any more.
inline constexpr int kExitOutOfMemory = 86;
// No server was reachable for the orphan timeout.
inline constexpr int kExitOrphaned = 87;
// The decoded data set was damaged or gone before the worker said hello; what was damaged is removed.
inline constexpr int kExitDataUnusable = 88;
// The file with its assignment is not there: whoever runs attempts has run this one before.
inline constexpr int kExitRunAgain = 89;
// SIGTERM ended the training without an outcome (128 + 15).
inline constexpr int kExitTerminated = 143;

}  // namespace normlab::common
