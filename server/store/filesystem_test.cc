#include "server/store/filesystem.h"

#include "gtest/gtest.h"

namespace normlab::server {
namespace {

TEST(FilesystemTest, NetworkFilesystemsAreKnownByMagicAndFuseType) {
  EXPECT_EQ(NetworkFilesystemName(0x6969, "nfs4"), "NFS");
  EXPECT_EQ(NetworkFilesystemName(0xFFFFFFFFFF534D42ul, "cifs"), "CIFS");
  EXPECT_EQ(NetworkFilesystemName(0x65735546, "fuse.sshfs"), "fuse.sshfs");
  EXPECT_EQ(NetworkFilesystemName(0x65735546, "fuse.fuse-overlayfs"), "");
  EXPECT_EQ(NetworkFilesystemName(0xEF53, "ext4"), "");
  EXPECT_TRUE(CheckLocalFilesystem(::testing::TempDir()).ok());
  EXPECT_EQ(CheckLocalFilesystem("/nonexistent/folder").code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace normlab::server
