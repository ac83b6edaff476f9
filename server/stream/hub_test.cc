#include "server/stream/hub.h"

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"

namespace normlab::server {
namespace {

TEST(HubTest, TellsTheSubscribersOfThatJobOnly) {
  Hub hub;
  int a = 0;
  int b = 0;
  auto first = hub.Subscribe("a", [&] { ++a; });
  auto second = hub.Subscribe("a", [&] { ++a; });
  auto other = hub.Subscribe("b", [&] { ++b; });
  EXPECT_EQ(hub.subscriber_count(), 3);
  hub.Published("a", 1, false);
  EXPECT_EQ(a, 2);
  EXPECT_EQ(b, 0);
  first.reset();
  hub.Published("a", 2, true);
  EXPECT_EQ(a, 3);
  second.reset();
  other.reset();
  EXPECT_EQ(hub.subscriber_count(), 0);
  hub.Published("a", 3, true);
  EXPECT_EQ(a, 3);
}

TEST(HubTest, LagIsThatOfTheReaderFurthestBehind) {
  Hub hub;
  auto fast = hub.Subscribe("a", [] {});
  auto slow = hub.Subscribe("a", [] {});
  auto silent = hub.Subscribe("b", [] {});
  hub.Published("b", 1'000, false);
  EXPECT_EQ(hub.MaxLag(), 0) << "one that tells nothing has no lag";
  fast->Sent(9);
  slow->Sent(2, 10);
  EXPECT_EQ(hub.MaxLag(), 8) << "what it was greeted with counts before anything is published";
  hub.Published("a", 30, false);
  EXPECT_EQ(hub.MaxLag(), 28);
  slow->Sent(30);
  EXPECT_EQ(hub.MaxLag(), 21);
  fast->Sent(31);  // read before it was told of
  EXPECT_EQ(hub.MaxLag(), 0);
  hub.Published("a", 31, false);
  EXPECT_EQ(hub.MaxLag(), 1);
  slow.reset();
  EXPECT_EQ(hub.MaxLag(), 0);
}

TEST(HubTest, DestructionWaitsForARunningCall) {
  Hub hub;
  absl::Notification entered;
  absl::Notification leave;
  std::atomic<bool> returned = false;
  auto subscription = hub.Subscribe("a", [&] {
    entered.Notify();
    leave.WaitForNotification();
    returned = true;
  });
  std::thread publisher([&] { hub.Published("a", 1, false); });
  entered.WaitForNotification();
  std::atomic<bool> gone = false;
  std::thread destroyer([&] {
    subscription.reset();
    EXPECT_TRUE(returned);
    gone = true;
  });
  // Removed from the hub first, then waited for: seen from outside.
  while (hub.subscriber_count() != 0) {
    std::this_thread::yield();
  }
  EXPECT_FALSE(gone);
  leave.Notify();
  destroyer.join();
  publisher.join();
}

TEST(HubTest, ACallbackMayEndItsOwnSubscriptionAndUseTheHub) {
  Hub hub;
  int calls = 0;
  std::unique_ptr<Hub::Subscription> subscription;
  subscription = hub.Subscribe("a", [&] {
    ++calls;
    EXPECT_EQ(hub.subscriber_count(), 1);
    subscription.reset();
  });
  hub.Published("a", 1, false);
  hub.Published("a", 2, false);
  EXPECT_EQ(calls, 1);
}

TEST(HubTest, TellsWhenTheAudienceOfAJobComesAndGoes) {
  Hub hub;
  std::vector<bool> seen;
  auto observer = hub.ObserveAudience("a", [&] { seen.push_back(hub.HasSubscribers("a")); });
  EXPECT_FALSE(hub.HasSubscribers("a"));
  auto other = hub.Subscribe("b", [] {});
  auto first = hub.Subscribe("a", [] {});
  auto second = hub.Subscribe("a", [] {});
  first.reset();
  EXPECT_EQ(seen, std::vector<bool>({true})) << "the first that came, and no other";
  second.reset();
  EXPECT_EQ(seen, std::vector<bool>({true, false}));
  EXPECT_EQ(hub.subscriber_count(), 1) << "an observer is no subscriber";
  hub.Published("a", 1, false);
  observer.reset();
  auto third = hub.Subscribe("a", [] {});
  EXPECT_EQ(seen.size(), 2u) << "not told after its end, nor of news";
}

TEST(HubTest, ManyThreadsComeAndGo) {
  Hub hub;
  std::atomic<bool> done = false;
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 2000; ++i) {
        std::atomic<bool> alive = true;
        auto subscription = hub.Subscribe("a", [&alive] { EXPECT_TRUE(alive); });
        hub.Published("a", i, false);
        subscription.reset();
        alive = false;
      }
    });
  }
  threads.emplace_back([&] {
    while (!done) {
      hub.Published("a", 0, false);
    }
  });
  for (int t = 0; t < 3; ++t) {
    threads[t].join();
  }
  done = true;
  threads.back().join();
  EXPECT_EQ(hub.subscriber_count(), 0);
}

}  // namespace
}  // namespace normlab::server
